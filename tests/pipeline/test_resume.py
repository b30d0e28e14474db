"""A run that was stopped goes on to the same bits as one that was not."""

import dataclasses
import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from prepared_split import coloured_splits

from sft_keras import Backbone, Checkpointing, Data, LoRA, Recipe, Stage, Store
from sft_keras.cache import sink
from sft_keras.cache.sink import Sink
from sft_keras.core.errors import RunFolderError
from sft_keras.core.timer import Timer
from sft_keras.data.examples import DataInfo
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.runs.checkpoints import Checkpoints
from sft_keras.runs.folder import RunFolder
from sft_keras.runs.interrupt import StopRequest
from sft_keras.runs.resume import require_same_recipe
from sft_keras.tasks import Augment, ImageClassification
from sft_keras.training import checkpointer as checkpointer
from sft_keras.training.checkpointer import Checkpointer
from sft_keras.training.experiment import Experiment
from sft_keras.training.trainer import train_stages

SIZES = {"train": 20, "validation": 9}
INFO = DataInfo("noise", ("a", "b", "c"), SIZES, dict.fromkeys(SIZES, (1, 1, 1)), {})
IN_EPOCH = 3


@pytest.fixture(scope="module")
def prepared():
    return coloured_splits(SIZES)


def recipe(*stages, **fields):
    return Recipe(
        task=fields.pop("task", ImageClassification()),
        data=Data(source="digits", batch_size=8),
        backbone=Backbone(preset="keras:vgg16"),
        stages=stages,
        **fields,
    )


class StopAfter(Checkpointer):
    """Asks the run to stop after so many steps of all stages."""

    def __init__(self, *arguments, steps: int | None, **named) -> None:
        super().__init__(*arguments, **named)
        self._left = steps

    def after_step(self, take, asked):
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._stop.received = signal.SIGTERM
        super().after_step(take, asked)


def trained(build_staged, prepared, plan, folder, steps=None, plan_checkpoints=None):
    """Runs the stages, or what is left of them; returns the model, or None if it was stopped."""
    folder.mkdir(exist_ok=True)
    run = RunFolder(folder, is_quiet=True)
    with configured_keras(plan):
        staged = build_staged(head_dropout=0.4)
        own = StopAfter(
            staged,
            run.checkpoints,
            plan_checkpoints or plan.checkpoints,
            steps=steps,
            about={"data": ""},
            stop=StopRequest(),
            timer=Timer(),
            reporter=run,
            resumed=run.checkpoints.newest(),
        )
        try:
            experiment = Experiment(plan, staged, prepared, INFO, run)
            results = train_stages(experiment, checkpointer=own)
        except KeyboardInterrupt:
            return None
    return SimpleNamespace(staged=staged, results=results, run=run)


def compared(result):
    """What must be the same of a stage's result, whatever it took."""
    return {k: v for k, v in result.items() if k not in ("seconds", "frozen_blocks", "frozen_pass")}


def assert_same(one, other):
    for a, b in zip(one.staged.model.variables, other.staged.model.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    assert list(map(compared, one.results)) == list(map(compared, other.results))


HEAD = Stage(name="head", epochs=2, learning_rate=1e-2)
PLANS = {
    # Augmented, uncached; the second stage in rounds that are not epochs.
    "augmented": recipe(
        HEAD,
        Stage(name="top", steps=8, learning_rate=1e-3, unfreeze=2, warmup=0.3, schedule="cosine"),
        task=ImageClassification(augment=Augment(flip=True, rotation=0.1, mixup=0.2)),
    ),
    # Cached; all that an optimizer can remember.
    "remembering": recipe(
        dataclasses.replace(HEAD, ema=0.7, patience=1, monitor="val_accuracy"),
        Stage(
            name="top",
            epochs=3,
            learning_rate=1e-2,
            unfreeze=2,
            layer_decay=0.5,
            weight_decay=1e-2,
            l2=1e-3,
            clip_norm=1.0,
            ema=0.5,
            accumulate=2,
            train_batch_norm=True,
        ),
    ),
    "half_precision": recipe(
        HEAD,
        Stage(name="top", epochs=2, learning_rate=1e-3, unfreeze=1, ema=0.5),
        precision="mixed_float16",
    ),
    "adapted": recipe(
        HEAD,
        Stage(
            name="adapted",
            epochs=1,
            learning_rate=1e-2,
            unfreeze=2,
            adapter=LoRA(rank=2, targets="all"),
        ),
        Stage(name="all", epochs=1, learning_rate=1e-3, unfreeze="all"),
    ),
    "found_rate": recipe(dataclasses.replace(HEAD, learning_rate="auto")),
}
UNBROKEN = {}


def unbroken(name, build_staged, prepared, folder):
    if name not in UNBROKEN:
        UNBROKEN[name] = trained(build_staged, prepared, PLANS[name], folder / "unbroken")
    return UNBROKEN[name]


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        ("remembering", (8,)),  # between the two batches of one update of the second stage
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("remembering", (2, 5)),
                ("augmented", (3, 3)),  # at the end of an epoch, and of a stage
                ("half_precision", (4, 5)),
                ("adapted", (8, 2)),  # within the adapters' stage, and the one after
                ("found_rate", (1,)),
            )
        ),
        *(
            pytest.param(*each, marks=[pytest.mark.slow, pytest.mark.nightly])
            for each in (
                ("augmented", (1, 2, 2, 4)),  # within epochs, and a round of the second stage
                ("remembering", (2, 3, 5)),
            )
        ),
    ],
)
def test_what_is_stopped_and_gone_on_with_ends_with_the_same_bits(
    build_staged, prepared, tmp_path, name, stops
):
    expected = unbroken(name, build_staged, prepared, tmp_path)
    broken = tmp_path / "broken"
    for steps in stops:
        assert trained(build_staged, prepared, PLANS[name], broken, steps) is None
    last = trained(build_staged, prepared, PLANS[name], broken)
    assert_same(last, expected)
    # What is gone on with is not done again: each epoch of each stage is said once.
    lines = [line for line in (broken / "log.txt").read_text().splitlines() if "  epoch " in line]
    assert len(lines) == sum(result["epochs_run"] for result in expected.results)


@pytest.mark.slow
def test_a_process_that_dies_goes_on_from_its_latest_checkpoint(build_staged, prepared, tmp_path):
    plan, died = PLANS["remembering"], tmp_path / "died"
    expected = unbroken("remembering", build_staged, prepared, tmp_path)
    for every, dies_after in ((2, 5), (4, 7), (1, 1)):
        often = Checkpointing(every_steps=every)
        with pytest.MonkeyPatch.context() as patch:
            # As a kill does: nothing is written when it comes.
            patch.setattr(checkpointer.Checkpointer, "check", lambda self, asked: None)
            counted = iter(range(dies_after))

            def dying(self, take, asked, counted=counted, write=Checkpointer.after_step):
                if next(counted, None) is None:
                    raise MemoryError("killed")
                write(self, take, asked)

            patch.setattr(StopAfter, "after_step", dying)
            with pytest.raises(MemoryError):
                trained(build_staged, prepared, plan, died, plan_checkpoints=often)
    assert_same(trained(build_staged, prepared, plan, died), expected)


@pytest.mark.slow
def test_a_torn_checkpoint_is_said_and_the_one_before_leads_to_the_same_bits(
    build_staged, prepared, tmp_path
):
    expected = unbroken("augmented", build_staged, prepared, tmp_path)
    broken = tmp_path / "broken"
    often = Checkpointing(every_steps=2)
    plan = PLANS["augmented"]
    assert trained(build_staged, prepared, plan, broken, 5, often) is None
    names = sorted(path.name for path in (broken / "checkpoints").iterdir())
    assert len(names) == 2
    torn = broken / "checkpoints" / names[-1] / "arrays.safetensors"
    torn.write_bytes(torn.read_bytes()[:-7])
    assert_same(trained(build_staged, prepared, plan, broken), expected)
    assert f"it is damaged: {torn.parent}" in (broken / "log.txt").read_text()


@pytest.mark.slow
def test_writing_checkpoints_changes_nothing(build_staged, prepared, tmp_path):
    expected = unbroken("remembering", build_staged, prepared, tmp_path)
    often = trained(
        build_staged,
        prepared,
        PLANS["remembering"],
        tmp_path / "often",
        plan_checkpoints=Checkpointing(every_steps=1),
    )
    assert_same(often, expected)


@pytest.mark.slow
def test_a_full_disk_is_said_and_training_goes_on(build_staged, prepared, tmp_path, monkeypatch):
    def full(self, snapshot):
        raise OSError(28, "No space left on device")

    expected = unbroken("augmented", build_staged, prepared, tmp_path)
    monkeypatch.setattr(Checkpoints, "write", full)
    found = trained(
        build_staged,
        prepared,
        PLANS["augmented"],
        tmp_path / "full",
        plan_checkpoints=Checkpointing(every_steps=5),
    )
    assert_same(found, expected)
    log = (tmp_path / "full" / "log.txt").read_text()
    assert "could not be written (No space left on device); training goes on" in log


@pytest.mark.slow
def test_a_checkpoint_holds_what_has_moved_and_no_more(build_staged, prepared, tmp_path):
    plan = recipe(HEAD, Stage(name="top", epochs=1, learning_rate=1e-3, unfreeze=1))
    assert trained(build_staged, prepared, plan, tmp_path / "run", 2 * IN_EPOCH + 1) is None
    held = Checkpoints(tmp_path / "run").newest().arrays
    weights = {name for name in held if name.startswith("weights/")}
    layers = ("block3_conv", "hidden_1", "logits")
    assert weights == {f"weights/{n}/{w}" for n in layers for w in ("kernel", "bias")}


@pytest.mark.parametrize(
    ("ends", "every"),
    [
        pytest.param(
            KeyboardInterrupt,
            300.0,
            id="asked to stop",
            marks=[pytest.mark.slow, pytest.mark.nightly],
        ),
        pytest.param(MemoryError, 0.0, id="killed", marks=pytest.mark.slow),
    ],
)
def test_a_pass_over_the_frozen_blocks_goes_on_where_it_was_broken_off(
    build_staged, prepared, tmp_path, monkeypatch, ends, every
):
    store = Store(folder=str(tmp_path / "rows"), batch_size=4)
    plan = recipe(dataclasses.replace(HEAD, epochs=1), cache="disk", store=store)
    expected = trained(
        build_staged, prepared, dataclasses.replace(plan, cache="off"), tmp_path / "unbroken"
    )
    append, left = Sink.append, iter(range(3))

    def broken_off(self, *arguments):
        if next(left, None) is None:
            raise ends
        append(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sink, "_COMMITTED_EVERY", every)
        patch.setattr(Sink, "append", broken_off)
        if ends is KeyboardInterrupt:
            assert trained(build_staged, prepared, plan, tmp_path / "run") is None
        else:
            with pytest.raises(MemoryError):
                trained(build_staged, prepared, plan, tmp_path / "run")
    found = trained(build_staged, prepared, plan, tmp_path / "run")
    (result,) = found.results
    assert result["frozen_blocks"].startswith(f"computed once for {20 + 9 - 3 * 4} examples")
    assert result["history"]["loss"] == pytest.approx(expected.results[0]["history"]["loss"])


@pytest.mark.slow
def test_another_model_is_refused(build_staged, prepared, tmp_path):
    plan = PLANS["augmented"]
    assert trained(build_staged, prepared, plan, tmp_path / "run", 2) is None

    def changed(**fields):
        staged = build_staged(**fields)
        staged.backbone.model.get_layer("stem_conv").kernel.assign_add([[[[1.0]]]])
        return staged

    with pytest.raises(RunFolderError, match=r"'stem_conv/kernel' among them"):
        trained(changed, prepared, plan, tmp_path / "run")
    assert trained(build_staged, prepared, plan, tmp_path / "run", 1) is None


# The recipe of a resumed run


def test_a_changed_recipe_is_refused_with_the_fields_unless_they_are_allowed(tmp_path):
    from sft_keras.recipe.loader import to_plain

    began = recipe(HEAD, Stage(name="top", epochs=2, learning_rate=1e-3, unfreeze=1))
    (tmp_path / "recipe.json").write_text(json.dumps(to_plain(began)))
    assert not require_same_recipe(tmp_path, began, ())
    often = dataclasses.replace(began, checkpoints=Checkpointing(every_steps=1))
    assert not require_same_recipe(tmp_path, often, ())
    longer = dataclasses.replace(began.stages[1], epochs=5)
    changed = dataclasses.replace(began, stages=(HEAD, longer), seed=3)
    with pytest.raises(RunFolderError) as refused:
        require_same_recipe(tmp_path, changed, ["seed"])
    assert "1. `stages.top.epochs` was 2 and is 5." in str(refused.value)
    assert "`seed`" not in str(refused.value)
    assert "--allow_changed=stages.top.epochs" in str(refused.value)
    assert require_same_recipe(tmp_path, changed, ["seed", "stages.top"])
    swapped = dataclasses.replace(began, stages=began.stages[::-1])
    with pytest.raises(RunFolderError, match=r"`stages` was \['head', 'top'\]"):
        require_same_recipe(tmp_path, swapped, ())
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(RunFolderError, match="cannot be read"):
        require_same_recipe(tmp_path, began, ())


@pytest.mark.slow
def test_more_epochs_can_be_allowed(build_staged, prepared, tmp_path):
    plan = recipe(HEAD)
    longer = recipe(dataclasses.replace(HEAD, epochs=4))
    expected = trained(build_staged, prepared, longer, tmp_path / "unbroken")
    assert trained(build_staged, prepared, plan, tmp_path / "run", 4) is None
    assert_same(trained(build_staged, prepared, longer, tmp_path / "run"), expected)


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    yield
    UNBROKEN.clear()
