"""Trials share data, backbones and frozen-block outputs, and yet are as runs of their own."""

import contextlib
import dataclasses
import gc
import json
import logging
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import sft_keras
from sft_keras import Arrays, Data, Recipe
from sft_keras.core.errors import DataError, RecipeError
from sft_keras.core.snapshot import Snapshot
from sft_keras.data.examples import DataInfo
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.recipe.loader import load_recipe
from sft_keras.recipe.metric import ACCURACY, LOSS
from sft_keras.sweeps import run as trials
from sft_keras.sweeps import shared
from sft_keras.sweeps.plan import plan_trials
from sft_keras.sweeps.run import run_trials
from sft_keras.sweeps.shared import TrialContext
from sft_keras.tasks.image_classification.task import ImageClassificationTask
from sft_keras.training.experiment import Experiment
from sft_keras.training.setup import build_staged
from sft_keras.training.trainer import train_stages


@dataclasses.dataclass
class Ran:
    """What running trials left behind: the report, and for each trial its weights and stages."""

    report: dict[str, Any]
    folder: Path
    weights: list[list[np.ndarray]]
    stages: list[list[dict[str, Any]]]


@contextlib.contextmanager
def watched(weights: list, stages: list):
    """Notes the weights and the stages' results of each trial within."""

    def noting(experiment: Experiment, **options: Any):
        results = train_stages(experiment, **options)
        weights.append(experiment.staged.model.get_weights())
        stages.append(results)
        return results

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "train_stages", noting)
        yield


def ran(recipe: Recipe, folder: Path, **flags: Any) -> Ran:
    weights: list[list[np.ndarray]] = []
    stages: list[list[dict[str, Any]]] = []
    with watched(weights, stages):
        report = run_trials(load_recipe(recipe), plan_trials(recipe, **flags), run_dir=folder)
    return Ran(report, folder, weights, stages)


@pytest.fixture
def finetuned(monkeypatch, tmp_path):
    """Runs `finetune`, without the export, which takes long and is not what is compared."""

    def run(recipe: Recipe, overrides: tuple[str, ...] = ()):
        nothing = Snapshot({})
        monkeypatch.setattr("sft_keras.pipeline.finish.RunFinisher.export", lambda *args: nothing)
        return sft_keras.finetune(recipe, overrides=overrides, run_dir=tmp_path / "plain")

    return run


@pytest.fixture
def without_training(monkeypatch) -> list[Recipe]:
    """Trials train nothing and score 0.5; the list has the recipes of those that ran."""
    recipes: list[Recipe] = []
    figures = {"accuracy": {"value": 0.5}, "loss": 1.0}

    def result(experiment: Experiment, *, memory, scores_test: bool):
        recipes.append(experiment.recipe)
        test = figures if scores_test else None
        story = {"learning_rate": 0.1, "epochs_run": 1, "frozen_blocks": "not at all"}
        return [{"name": "head", "validation": figures, "test": test, **story}]

    monkeypatch.setattr(trials, "train_stages", result)
    return recipes


@pytest.fixture(scope="module")
def top_recipe(tiny_recipe) -> Recipe:
    """One stage that trains the top block too."""
    return dataclasses.replace(tiny_recipe, stages=tiny_recipe.stages[1:], cache="memory")


@pytest.fixture(scope="module")
def swept(tmp_path_factory, top_recipe) -> Ran:
    """A sweep over two learning rates."""
    folder = tmp_path_factory.mktemp("trials") / "sweep"
    return ran(top_recipe, folder, sweep=["stages.top.learning_rate=3e-3,1e-2"])


@pytest.fixture(scope="module")
def drawn_recipe(tiny_recipe) -> Recipe:
    """One stage on random weights, which depend on the seed too."""
    return dataclasses.replace(
        tiny_recipe,
        backbone=dataclasses.replace(tiny_recipe.backbone, weights=None),
        stages=tiny_recipe.stages[:1],
        cache="memory",
        seed=3,
    )


@pytest.fixture(scope="module")
def seeded(tmp_path_factory, drawn_recipe) -> Ran:
    """Two seeds of the recipe on random weights."""
    return ran(drawn_recipe, tmp_path_factory.mktemp("trials") / "seeds", seeds=2)


def assert_same_run(of_trials: Ran, number: int, plain) -> None:
    """Compares a trial with a run of its own, bit for bit."""
    for mine, other in zip(of_trials.weights[number], plain.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    stages = of_trials.stages[number]
    assert {stage["name"]: stage["history"] for stage in stages} == plain.history
    assert [stage["validation"] for stage in stages] == [
        stage["validation"] for stage in plain.report["stages"]
    ]


def test_a_trial_of_a_sweep_is_bit_for_bit_the_run_with_its_overrides(swept, top_recipe, finetuned):
    # The second, which finds a backbone that was trained already, and rows computed before.
    plain = finetuned(top_recipe, tuple(swept.report["points"][1]["overrides"]))
    assert_same_run(swept, 1, plain)
    score = plain.report["stages"][-1]["validation"]
    trial = swept.report["points"][1]["repeats"][0]
    assert trial["scores"] == {"validation": score["accuracy"]["value"]}
    assert trial["loss"] == score["loss"]
    history = json.loads((swept.folder / "trials" / "002" / "history.json").read_text())
    assert history == plain.history


def test_frozen_blocks_are_computed_once_for_a_whole_sweep(swept):
    first, second = (point["repeats"][0]["frozen_blocks"] for point in swept.report["points"])
    assert [story.partition(" for ")[0] for story in first] == ["computed once"]
    assert second == ["read from memory"]


def test_a_sweep_leaves_a_folder_that_says_all(swept):
    assert {path.name for path in swept.folder.iterdir()} == {
        *("recipe.json", "trials.json", "report.html", "log.txt", "trials"),
    }
    assert json.loads((swept.folder / "trials.json").read_text()) == swept.report
    for name in ("001", "002"):
        files = {path.name for path in (swept.folder / "trials" / name).iterdir()}
        assert files == {"recipe.json", "history.json", "log.txt"}
    recipe = json.loads((swept.folder / "trials" / "002" / "recipe.json").read_text())
    assert recipe["stages"][0]["learning_rate"] == 1e-2
    assert "stages.top.learning_rate=1e-2" in (swept.folder / "log.txt").read_text()


@pytest.mark.slow
def test_the_first_seed_is_the_plain_run_and_the_others_differ(seeded, drawn_recipe, finetuned):
    plain = finetuned(drawn_recipe)
    assert_same_run(seeded, 0, plain)
    first, second = seeded.report["points"][0]["repeats"]
    assert (first["name"], second["name"]) == ("seed 3", "seed 4")
    assert first["scores"]["test"] == plain.metrics["accuracy"]["value"]
    assert first["loss"] != second["loss"]
    assert any((a != b).any() for a, b in zip(*seeded.weights))


@pytest.mark.slow
def test_seeds_are_summed_up_on_validation_and_test(seeded):
    point = seeded.report["points"][0]
    for split in ("validation", "test"):
        values = [trial["scores"][split] for trial in point["repeats"]]
        assert point["scores"][split] == {
            "mean": np.mean(values),
            "low": min(values),
            "high": max(values),
        }


def test_seeds_train_on_the_same_splits(tiny_recipe):
    plan = plan_trials(tiny_recipe, sweep=["seed=7"], seeds=2)
    bench = TrialContext(lambda done, total: None)
    first, second = trials._trials_of(plan.points[0], plan, bench)
    assert (first.recipe.seed, second.recipe.seed) == (7, 8)
    assert first.data is second.data
    ids = first.data.prepared["test"].examples.ids
    own, other = (next(bench.data(tiny_recipe, seed, None)).prepared["test"] for seed in (7, 8))
    assert own.examples.ids == ids, "those of the point's own seed"
    assert other.examples.ids != ids


def test_folds_validate_each_example_once_and_leave_the_test_split_alone(tiny_recipe):
    bench = TrialContext(lambda done, total: None)
    whole = {
        split: _images_by_id(prepared)
        for split, prepared in next(bench.data(tiny_recipe, 0, None)).prepared.items()
    }
    every = {**whole["train"], **whole["validation"]}
    of_class = np.bincount([label for label, _, _ in every.values()])
    folds = list(bench.data(tiny_recipe, 0, 4))
    assert len(folds) == 4
    validated: list[str] = []
    for fold in folds:
        held = {split: _images_by_id(prepared) for split, prepared in fold.prepared.items()}
        assert held["test"] == whole["test"]
        assert not held["train"].keys() & held["validation"].keys()
        # Each example is still with its own image and label.
        assert {**held["train"], **held["validation"]} == every
        validated += held["validation"]
        assert fold.info.sizes == {split: len(images) for split, images in held.items()}
        for split in ("train", "validation"):
            counts = np.bincount(fold.prepared[split].examples.labels, minlength=3)
            assert fold.info.counts[split] == tuple(counts)
        assert (abs(counts - of_class / 4) < 1).all(), "stratified"
    assert sorted(validated) == sorted(every)
    assert "fold 2 of 4" in folds[1].info.origin["validation"]


def _images_by_id(prepared) -> dict[str, tuple[int, bytes, bytes]]:
    rows = prepared.features.take(tf.range(len(prepared.examples), dtype=tf.int64)).numpy()
    return {
        name: (int(label), bytes(digest), row.tobytes())
        for name, label, digest, row in zip(
            prepared.examples.ids, prepared.examples.labels, prepared.digests, rows, strict=True
        )
    }


def test_the_same_seed_makes_the_same_folds_and_another_others(tiny_recipe, colour_images):
    images, labels = colour_images
    parts = {"train": slice(24), "validation": slice(24, 36), "test": slice(36, 48)}
    source = Arrays(**{split: (images[part], labels[part]) for split, part in parts.items()})
    recipe = dataclasses.replace(tiny_recipe, data=Data(source=source, batch_size=8))

    def held(seed: int) -> list[tuple[str, ...]]:
        folds = TrialContext(lambda done, total: None).data(recipe, seed, 3)
        return [fold.prepared["validation"].examples.ids for fold in folds]

    assert held(0) == held(0)
    assert held(0) != held(1)


def test_classes_too_small_for_the_folds_are_named_and_nothing_is_left(
    tiny_recipe, colour_images, tmp_path
):
    images, labels = colour_images
    kept = np.concatenate([np.flatnonzero(labels == 0)[:4], np.flatnonzero(labels > 0)])
    source = Arrays(train=(images[kept], labels[kept]), class_names=("red", "green", "blue"))
    recipe = dataclasses.replace(tiny_recipe, data=Data(source=source, batch_size=8))
    with pytest.raises(DataError, match=r"at least 5 .* for 5 folds. Too small: 'red' \(4\). Use"):
        run_trials(load_recipe(recipe), plan_trials(recipe, folds=5), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_folds_share_what_frozen_blocks_give_and_are_scored_on_test(drawn_recipe, tmp_path):
    report = ran(drawn_recipe, tmp_path / "folds", folds=2).report
    first, second = report["points"][0]["repeats"]
    assert (first["name"], second["name"]) == ("fold 1", "fold 2")
    assert first["frozen_blocks"][0].startswith("computed once for 72 examples")
    assert second["frozen_blocks"] == ["read from memory"]
    assert first["scores"].keys() == second["scores"].keys() == {"validation", "test"}


def count_calls(monkeypatch, name: str) -> list[Any]:
    """Notes the arguments of each call of a method of the task."""
    calls: list[Any] = []
    real = getattr(ImageClassificationTask, name)

    def counting(*args: Any) -> Any:
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(ImageClassificationTask, name, counting)
    return calls


@pytest.mark.parametrize(
    ("axis", "times"),
    [
        ("data.batch_size=4,8", 1),
        pytest.param("task.dropout=0.1,0.5", 1, marks=pytest.mark.slow),
        pytest.param("stages.top.unfreeze=1,2", 1, marks=pytest.mark.slow),
        ("task.fit=crop,pad", 2),
        pytest.param("data.validation=0.1,0.2", 2, marks=pytest.mark.slow),
    ],
)
def test_data_are_read_again_only_where_another_value_changes_them(
    tiny_recipe, without_training, monkeypatch, tmp_path, axis, times
):
    opened = count_calls(monkeypatch, "open_data")
    built = count_calls(monkeypatch, "build_backbone")
    ran_points = run_trials(
        load_recipe(tiny_recipe), plan_trials(tiny_recipe, sweep=[axis]), run_dir=tmp_path / "run"
    )["points"]
    assert [len(point["failures"]) for point in ran_points] == [0, 0]
    assert len(without_training) == 2
    assert len(opened) == times
    assert len(built) == 1


def test_the_backbone_is_handed_out_as_it_was_at_first(tiny_recipe):
    bench = TrialContext(lambda done, total: None)
    built = bench.backbone(tiny_recipe)
    first = [np.array(variable) for variable in built.model.variables]
    for _ in range(3):
        for variable in built.model.variables:
            variable.assign(variable + 1)
        assert bench.backbone(tiny_recipe) is built
        for variable, value in zip(built.model.variables, first, strict=True):
            np.testing.assert_array_equal(variable, value)


def test_models_of_earlier_trials_do_not_stay_in_memory(tiny_recipe):
    bench = TrialContext(lambda done, total: None)
    info = DataInfo("", ("a", "b"), {}, {}, {})
    seen = []
    for _ in range(2):
        built = bench.backbone(tiny_recipe)
        staged = build_staged(tiny_recipe, built, info)
        made = (staged.head, staged.model, staged.stage_model(1), staged.suffix_model(1))
        assert made[1](np.zeros((1, 32, 32, 3), np.float32)).shape == (1, 2)
        seen.append([weakref.ref(model) for model in made])
        del staged, made
    bench.backbone(tiny_recipe)
    gc.collect()
    assert not [model() for models in seen for model in models if model() is not None]


def test_random_weights_are_drawn_with_each_seed(drawn_recipe):
    def weights(bench: TrialContext, seed: int) -> list[np.ndarray]:
        recipe = dataclasses.replace(drawn_recipe, seed=seed)
        with configured_keras(recipe):
            return bench.backbone(recipe).model.get_weights()

    bench = TrialContext(lambda done, total: None)
    for seed in (3, 4, 3):
        alone = weights(TrialContext(lambda done, total: None), seed)
        for mine, other in zip(weights(bench, seed), alone, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_another_backbone_takes_the_place_of_the_first_and_of_its_rows(tiny_recipe, monkeypatch):
    bench = TrialContext(lambda done, total: None)
    names, rows = np.zeros((1, 32), np.uint8), [np.zeros((1, 2))]
    # As with dropout, whose state depends on the seed while the weights do not.
    monkeypatch.setattr(shared, "_has_random_state", lambda built: True)
    first = bench.backbone(tiny_recipe)
    bench.memory.add("rows", names, rows)
    assert bench.backbone(dataclasses.replace(tiny_recipe, seed=1)) is not first
    assert bench.memory.find("rows", names) == [0]
    other = dataclasses.replace(tiny_recipe.backbone, image_size=(48, 48))
    built = bench.backbone(dataclasses.replace(tiny_recipe, backbone=other))
    assert built.model.input_shape == (None, 48, 48, 3)
    assert bench.memory.find("rows", names) == [-1]


@pytest.mark.slow
def test_a_backbone_that_cannot_be_had_is_a_row_and_the_others_go_on(
    tiny_recipe, tiny_backbone, monkeypatch, tmp_path
):
    recipe = dataclasses.replace(
        tiny_recipe, backbone=dataclasses.replace(tiny_backbone, weights=None)
    )
    built = count_calls(monkeypatch, "build_backbone")
    presets = [f"hub:{tmp_path}", tiny_backbone.preset]
    report = ran(recipe, tmp_path / "run", backbones=presets, seeds=2).report
    missing, there = report["points"]
    assert len(missing["failures"]) == 2
    assert "has no config.json" in missing["failures"][0]
    assert missing["scores"] == {} and missing["loss"] is None
    assert len(built) == 3, "what could not be had is not asked for again"
    assert there["failures"] == []
    assert report["best"] == 1
    for trial in there["repeats"]:
        assert list(trial["epochs"]) == ["head"]
        assert trial["scores"].keys() == {"validation"}
        assert trial["parameters"] > 100_000


@pytest.mark.slow
def test_a_rate_that_diverges_is_a_row_and_the_others_go_on(drawn_recipe, tmp_path):
    sweep = ["stages.head.learning_rate=1e30,1e-3"]
    stage = dataclasses.replace(drawn_recipe.stages[0], optimizer="sgd", unfreeze="all")
    recipe = dataclasses.replace(drawn_recipe, stages=(stage,))
    report = ran(recipe, tmp_path / "run", sweep=sweep).report
    wild, calm = report["points"]
    assert "in stage 'head' at step" in wild["failures"][0]
    assert calm["failures"] == []
    assert np.isfinite(calm["loss"]["mean"])
    assert report["best"] == 1
    assert report["run_best"].endswith("overrides=['stages.head.learning_rate=1e-3'])")


def test_a_rate_that_moves_nothing_and_blocks_that_are_not_there_are_rows(drawn_recipe, tmp_path):
    sweep = ["stages.head.learning_rate=1e-300", "stages.head.unfreeze=0,99"]
    with pytest.raises(RecipeError, match=r"No trial finished; .*trials.json. The first: "):
        ran(drawn_recipe, tmp_path / "run", sweep=sweep)
    points = json.loads((tmp_path / "run" / "trials.json").read_text())["points"]
    assert "trained nothing" in points[0]["failures"][0]
    assert "`unfreeze` must be 'all' or from 0 to 3" in points[1]["failures"][0]
    assert "No trial finished" in (tmp_path / "run" / "report.html").read_text()


def test_too_little_memory_ends_a_trial_alone(
    drawn_recipe, without_training, monkeypatch, tmp_path
):
    trained_nothing = trials.train_stages

    def full(experiment: Experiment, **options: Any):
        if experiment.recipe.data.batch_size == 8:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
        return trained_nothing(experiment, **options)

    monkeypatch.setattr(trials, "train_stages", full)
    plan = plan_trials(drawn_recipe, sweep=["data.batch_size=8,16"])
    report = run_trials(load_recipe(drawn_recipe), plan, run_dir=tmp_path / "run")
    assert "not enough memory" in report["points"][0]["failures"][0]
    assert report["points"][1]["failures"] == []


def test_of_equal_scores_that_of_the_lowest_loss_is_best():
    def point(score: float, loss: float) -> Mapping[str, Any]:
        return {"scores": {"validation": {"mean": score}}, "loss": {"mean": loss}}

    failed = {"scores": {}, "loss": None}
    points = [failed, point(0.9, 0.4), point(0.9, 0.3), point(0.8, 0.1)]
    assert trials._best(points, ACCURACY) == 2
    assert trials._best(points, LOSS) == 3
    assert trials._best([failed, failed], ACCURACY) is None


def test_data_that_cannot_be_read_stop_all_and_leave_the_earlier_run(tiny_recipe, tmp_path):
    earlier = tmp_path / "run"
    earlier.mkdir()
    (earlier / "recipe.json").write_text("precious")
    recipe = dataclasses.replace(tiny_recipe, data=Data(source="synthetic:many"))
    with pytest.raises(DataError, match="synthetic:NUM_CLASSES"):
        run_trials(
            load_recipe(recipe), plan_trials(recipe, seeds=2), run_dir=earlier, overwrite=True
        )
    assert (earlier / "recipe.json").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_does_not_fit_the_data_is_refused_before_any_trial(
    tiny_recipe, without_training, tmp_path
):
    axis = 'stages.head.class_weights={"hue_0": 2.0};{"hue_O": 2.0}'
    plan = plan_trials(tiny_recipe, sweep=[axis])
    with pytest.raises(RecipeError, match=r"`stages.head.class_weights` .* Received: hue_O."):
        run_trials(load_recipe(tiny_recipe), plan, run_dir=tmp_path / "run")
    assert without_training == []
    assert not (tmp_path / "run").exists()


def test_data_of_a_later_point_that_cannot_be_read_are_its_rows(
    tiny_recipe, without_training, tmp_path
):
    axis = "data.source=synthetic:3,synthetic:many,synthetic:4"
    report = run_trials(
        load_recipe(tiny_recipe),
        plan_trials(tiny_recipe, sweep=[axis], seeds=2),
        run_dir=tmp_path / "run",
    )
    assert [len(point["failures"]) for point in report["points"]] == [0, 2, 0]
    assert "synthetic:NUM_CLASSES" in report["points"][1]["failures"][0]
    assert [recipe.data.source for recipe in without_training] == ["synthetic:3"] * 2 + [
        "synthetic:4"
    ] * 2


def test_a_stop_keeps_what_is_done_and_nothing_of_the_run_before(
    tiny_recipe, without_training, monkeypatch, tmp_path
):
    folder = tmp_path / "run"
    run_trials(load_recipe(tiny_recipe), plan_trials(tiny_recipe, seeds=2), run_dir=folder)
    fake = trials.train_stages

    def stopped(experiment: Experiment, *args: Any, **kwargs: Any):
        if experiment.recipe.data.batch_size == 16 and experiment.recipe.seed == 1:
            raise KeyboardInterrupt
        return fake(experiment, *args, **kwargs)

    monkeypatch.setattr(trials, "train_stages", stopped)
    plan = plan_trials(tiny_recipe, sweep=["data.batch_size=4,16,8"], seeds=2)
    with pytest.raises(KeyboardInterrupt):
        run_trials(load_recipe(tiny_recipe), plan, run_dir=folder, overwrite=True)
    report = json.loads((folder / "trials.json").read_text())
    assert [len(point["repeats"]) for point in report["points"]] == [2, 1]
    assert report["points"][1]["scores"]["validation"]["mean"] == 0.5
    assert "Stopped after 3 of 6" in (folder / "report.html").read_text().replace("\xa0", " ")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_stop_while_data_are_read_leaves_all_as_it_was(
    tiny_recipe, without_training, monkeypatch, tmp_path
):
    folder = tmp_path / "run"
    plan = plan_trials(tiny_recipe, seeds=2)
    run_trials(load_recipe(tiny_recipe), plan, run_dir=folder)
    before = (folder / "trials.json").read_bytes()

    def stopped(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageClassificationTask, "open_data", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_trials(load_recipe(tiny_recipe), plan, run_dir=folder, overwrite=True)
    assert (folder / "trials.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_only_advice_on_retracing_is_kept_back(caplog):
    logger = logging.getLogger("tensorflow")
    advice = "5 out of the last 8 calls to %s triggered tf.function retracing."
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        logger.addHandler(caplog.handler)
        try:
            with trials._without_retracing_warnings():
                logger.warning(advice, "f")
                logger.warning("something else")
            logger.warning(advice, "f")
        finally:
            logger.removeHandler(caplog.handler)
    said = list(dict.fromkeys(record.getMessage() for record in caplog.records))
    assert said == ["something else", advice % "f"]


@pytest.mark.slow
def test_a_trial_that_finds_its_rate_is_bit_for_bit_the_run_that_does(
    tiny_recipe, finetuned, tmp_path
):
    sweep = ["stages.top.learning_rate=1e-4,auto"]
    trained = ran(dataclasses.replace(tiny_recipe, cache="memory"), tmp_path / "auto", sweep=sweep)
    assert_same_run(trained, 1, finetuned(tiny_recipe, ("stages.top.learning_rate=auto",)))
    trial = trained.report["points"][1]["repeats"][0]
    assert trial["frozen_blocks"] == ["read from memory"] * 2
    assert trial["learning_rates"]["top"] == trained.stages[1][1]["rate_test"]["chosen"]
