"""Running a stage: what it leaves in the model, which epoch it keeps, and how it fails."""

import itertools
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from prepared_split import held_split

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.core.errors import AuditError, LossError
from sft_keras.core.reporter import CallbackReporter
from sft_keras.data.examples import DataInfo
from sft_keras.recipe.stage import Length, stage_length
from sft_keras.tasks import Augment, ImageClassification
from sft_keras.tasks.base import build_task
from sft_keras.tasks.single_label import SingleLabelObjective
from sft_keras.training import stage_runner
from sft_keras.training.early_stopping import EarlyStopping
from sft_keras.training.optimizers import build_schedule
from sft_keras.training.prepare import prepare_stage, set_penalties
from sft_keras.training.stage_plan import StagePlan
from sft_keras.training.stage_runner import run_stage

BATCH = 6
STEPS = 2  # an epoch


@pytest.fixture(scope="module")
def colours():
    """12 images of 3 colours, float32 [12, 16, 16, 3] in 0..255, and one-hot labels."""
    labels = np.arange(12) % 3
    images = np.random.default_rng(0).uniform(0, 100, (12, 16, 16, 3)).astype(np.float32)
    images[np.arange(12), :, :, labels] += 150
    return images, np.eye(3, dtype=np.float32)[labels]


def epoch(colours, labels=None, weights=1.0):
    """The batches of one epoch as arrays."""
    images, right = colours
    labels = right if labels is None else labels
    weights = np.broadcast_to(np.float32(weights), len(images))
    parts = [slice(at, at + BATCH) for at in range(0, len(images), BATCH)]
    return [(images[part], labels[part], weights[part]) for part in parts]


def dataset(batches):
    return tf.data.Dataset.from_tensor_slices(tuple(np.stack(part) for part in zip(*batches)))


def stage(name="top", **fields):
    given = {"epochs": 2, "learning_rate": 1e-2}
    return Stage(name=name, **(given | fields))


def run(staged, plan, colours, batches=None, *, training=None, on_line=print, has_start=False):
    """Runs a stage on the given batches, by default the colours in every epoch."""
    task = SingleLabelObjective(None)
    batches = batches or epoch(colours) * plan.epochs
    stage_plan = StagePlan(
        plan,
        Length(plan.epochs, len(batches) // plan.epochs),
        monitor=ImageClassification().monitors()[plan.monitor],
        loss=task.loss(plan),
        metrics=task.metrics(),
        training=(training or dataset(batches)).skip,
        validation=tf.data.Dataset.from_tensor_slices(colours).batch(BATCH),
        validates_start=has_start,
    )
    return run_stage(staged, stage_plan, CallbackReporter(on_line))


def values(staged):
    return {v.path: v.numpy() for v in staged.model.variables if "seed" not in v.path}


def changed(before, after):
    return {path for path in before if not np.array_equal(before[path], after[path])}


def layers_of(paths):
    return {path.rsplit("/", 1)[0] for path in paths}


@pytest.fixture
def eager():
    """Steps without a graph, whose making would take most of a small stage's time."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


class Recorder:
    """Notes the weights after each step and during each validation."""

    def __init__(self, monkeypatch, staged):
        self.steps, self.validated = [], []

        class Steps(stage_runner.Steps):
            def train(inner, *arguments):
                asked = super().train(*arguments)
                self.steps.append(values(staged))
                return asked

            def validate(inner, *arguments):
                self.validated.append(values(staged))
                return super().validate(*arguments)

        monkeypatch.setattr(stage_runner, "Steps", Steps)


# Stages one after the other


@pytest.fixture(scope="module")
def trained(build_staged, colours):
    """Three stages on one model, with the weights before and after each."""
    staged = build_staged()
    plans = (
        stage("head"),
        stage("top", unfreeze=2, layer_decay=0.5, l1=1e-3, l2=1e-3, weight_decay=1e-2),
        stage("all", unfreeze="all", train_batch_norm=True),
    )
    weights, results = [values(staged)], []
    for index, plan in enumerate(plans):
        results.append(run(staged, plan, colours, has_start=index > 0))
        weights.append(values(staged))
    moved = [changed(before, after) for before, after in itertools.pairwise(weights)]
    return SimpleNamespace(staged=staged, results=results, moved=moved)


def test_each_stage_trains_what_it_unfroze_and_leaves_the_rest_bit_for_bit(trained):
    head, top, everything = (layers_of(moved) for moved in trained.moved)
    assert head == {"hidden_1", "logits"}
    assert top == head | {"block2_mix", "block2_mix/dense", "block3_conv"}
    norms = {"block1_norm", "block2_mix/norm", "block3_norm"}
    assert everything == top | norms | {"stem_conv", "block1_conv"}


def test_the_audit_of_a_stage_names_what_moved(trained):
    head, top, everything = (result.audit for result in trained.results)
    assert set(head.trained_layers) == {"hidden_1", "logits"}
    assert (head.moved_variables, head.frozen_variables) == (4, 21)
    assert set(top.trained_layers) == layers_of(trained.moved[1])
    assert (top.moved_variables, top.frozen_variables) == (9, 16)
    assert [a.batch_norm_frozen_identical for a in (head, top, everything)] == [3, 3, 0]
    assert everything.frozen_variables == 0


def test_a_result_counts_parameters_epochs_and_steps(trained):
    head, top, everything = trained.results
    assert head.trainable_parameters == (4 * 5 + 5) + (5 * 3 + 3)
    assert top.trainable_parameters == head.trainable_parameters + (16 + 4 + 4) + (3 * 3 * 16 + 4)
    assert head.total_parameters == everything.total_parameters
    assert everything.total_parameters == trained.staged.model.count_params()
    assert everything.trainable_parameters == everything.total_parameters - 3 * 2 * 4
    assert (head.epochs_run, head.steps, head.stopped) == (2, 4, "ran all its epochs")
    assert set(head.history) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert all(len(each) == 2 for each in head.history.values())


def test_a_trained_model_is_saved_and_loads_again_with_equal_answers(trained, colours, tmp_path):
    trained.staged.model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = trained.staged.model(colours[0], training=False).numpy()
    np.testing.assert_array_equal(loaded(colours[0], training=False).numpy(), expected)
    assert np.ptp(expected, axis=0).min() > 1e-4


# Penalties


def test_penalties_are_on_the_kernels_that_train_and_on_nothing_else(build_staged, colours):
    staged, task = build_staged(), SingleLabelObjective(None)
    plan = stage(unfreeze=1, l1=0.01, l2=0.1)
    model = prepare_stage(staged, plan, STEPS, task.loss(plan), task.metrics())
    for variable in model.trainable_variables:
        variable.assign_add(np.ones(variable.shape))
    model(colours[0])
    kernels = [v.numpy() for v in model.trainable_variables if v.path.endswith("kernel")]
    assert len(kernels) == 3
    assert len([v for v in staged.model.variables if v.regularizer is not None]) == 3
    expected = sum(0.01 * np.abs(kernel).sum() + 0.1 * (kernel**2).sum() for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    set_penalties(staged, stage(unfreeze=1))
    assert model.losses == []


def test_the_history_has_the_rate_of_each_epochs_last_step(trained, build_staged, colours, eager):
    assert trained.results[0].history["learning_rate"] == pytest.approx([1e-2, 1e-2])
    plan = stage(epochs=2, learning_rate=0.8, optimizer="sgd", schedule="linear")
    result = run(build_staged(), plan, colours)
    assert result.history["learning_rate"] == pytest.approx([0.8 * 3 / 4, 0.8 * 1 / 4])


def test_penalties_are_gone_after_the_stage_and_not_in_what_is_saved(trained):
    assert all(v.regularizer is None for v in trained.staged.model.variables)
    assert "L1L2" not in trained.staged.model.to_json()


# Which epoch is kept


def poisoned(colours, good, bad):
    """Batches that teach for `good` epochs and mislead for `bad` ones."""
    wrong = np.roll(colours[1], 1, axis=1)
    return epoch(colours) * good + epoch(colours, wrong) * bad


def test_the_best_epochs_weights_are_kept_and_patience_ends_the_stage(
    build_staged, colours, monkeypatch, eager
):
    staged = build_staged(head_dropout=0.0)
    recorder = Recorder(monkeypatch, staged)
    plan = stage(epochs=9, optimizer="sgd", learning_rate=1.0, patience=3)
    result = run(staged, plan, colours, poisoned(colours, 3, 6))
    losses = result.history["val_loss"]
    assert losses[0] > losses[1] > losses[2] < min(losses[3:])
    assert (result.best_epoch, result.epochs_run, result.steps) == (3, 6, 12)
    assert result.stopped == "no better val_loss for 3 epochs"
    kept = values(staged)
    assert not changed(recorder.validated[2], kept)
    assert changed(recorder.validated[5], kept)
    answers = staged.model(colours[0], training=False).numpy()
    loss = -np.log((answers * colours[1]).sum(axis=1)).mean()
    assert loss == pytest.approx(losses[2], rel=1e-5)


@pytest.mark.parametrize("has_start", [True, False])
def test_the_start_is_kept_if_no_epoch_is_better_and_it_was_worth_it(
    build_staged, colours, has_start, eager
):
    staged = build_staged(head_dropout=0.0)
    before = values(staged)
    plan = stage(optimizer="sgd", learning_rate=1.0)
    result = run(staged, plan, colours, poisoned(colours, 0, 2), has_start=has_start)
    assert result.best_epoch == (0 if has_start else 1)
    assert bool(changed(before, values(staged))) != has_start


class Watched:
    """`EarlyStopping` of a single number, fed with validation figures by hand."""

    def __init__(self, **fields):
        self.weight = keras.Variable(0.0)
        plan = stage(**fields)
        monitor = ImageClassification().monitors()[plan.monitor]
        self.best = EarlyStopping(plan, monitor, {"weight": self.weight})

    def validate(self, *figures, start=None, metric="loss"):
        if start is not None:
            self.best.update(0, {metric: start})
        for number, figure in enumerate(figures, 1):
            self.weight.assign(number)
            self.best.update(number, {metric: figure})
            if self.best.is_patience_out:
                break
        stopped_after = number if self.best.is_patience_out else None
        self.best.restore()
        assert float(self.weight) == self.best.epoch
        return self.best.epoch, stopped_after


@pytest.mark.parametrize(
    ("figures", "best"), [((3, 2, 1), 3), ((1, 2, 3), 1), ((2, 1, 1, 1), 2), ((math.inf, 2), 2)]
)
def test_the_lowest_loss_is_best_and_the_first_of_equals(figures, best):
    assert Watched().validate(*figures) == (best, None)


def test_the_highest_accuracy_is_best_when_that_is_monitored():
    watched = Watched(monitor="val_accuracy", patience=2)
    assert watched.validate(0.5, 0.9, 0.9, 0.8, 1.0, metric="accuracy") == (2, 4)


@pytest.mark.parametrize(
    ("patience", "best", "stopped_after"),
    [(1, 1, 2), (2, 5, 7), (3, 5, 8), (4, 5, None), (None, 5, None)],
)
def test_patience_counts_epochs_since_the_best(patience, best, stopped_after):
    watched = Watched(patience=patience)
    assert watched.validate(5, 6, 4, 4, 3, 3, 3, 3) == (best, stopped_after)


def test_epochs_are_compared_with_a_start_worth_keeping():
    assert Watched().validate(2, 3, start=1) == (0, None)
    assert Watched().validate(2, 0.5, start=1) == (2, None)
    assert Watched(patience=2).validate(2, 3, 0, start=1) == (0, 2)


# Averaged weights


@pytest.mark.parametrize(("bad", "best"), [(0, 3), (1, 2)])
def test_with_ema_the_averages_are_validated_and_kept(
    build_staged, colours, monkeypatch, eager, bad, best
):
    staged = build_staged(head_dropout=0.0)
    start = values(staged)
    recorder = Recorder(monkeypatch, staged)
    plan = stage(epochs=3, optimizer="sgd", learning_rate=1.0, ema=0.5)
    result = run(staged, plan, colours, poisoned(colours, 3 - bad, bad))
    assert result.best_epoch == best
    averages, at_epochs_end = None, []
    for step, weights in enumerate(recorder.steps, 1):
        # Keras begins with what the first step led to.
        averages = averages or weights
        averages = {path: 0.5 * averages[path] + 0.5 * weights[path] for path in weights}
        if step % STEPS == 0:
            at_epochs_end.append(averages)
    kept = values(staged)
    for path in changed(start, kept):
        for seen, expected in zip(recorder.validated, at_epochs_end):
            np.testing.assert_allclose(seen[path], expected[path], atol=1e-6)
        np.testing.assert_allclose(kept[path], at_epochs_end[best - 1][path], atol=1e-6)
        assert np.abs(kept[path] - recorder.steps[best * STEPS - 1][path]).max() > 1e-4
    answers = staged.model(colours[0], training=False).numpy()
    loss = -np.log((answers * colours[1]).sum(axis=1)).mean()
    assert loss == pytest.approx(result.history["val_loss"][best - 1], rel=1e-4)


# A loss gone bad


@pytest.mark.parametrize(("bad", "shown"), [(np.nan, "nan"), (np.inf, "inf")])
def test_a_bad_loss_is_named_and_the_last_good_weights_are_kept(
    build_staged, colours, monkeypatch, eager, bad, shown
):
    staged = build_staged(head_dropout=0.0)
    recorder = Recorder(monkeypatch, staged)
    plan = stage("wild", epochs=3, learning_rate=0.03, warmup=0.99, l2=1e-4)
    batches = epoch(colours) * 2 + epoch(colours, weights=bad)
    step = 2 * STEPS + 1
    rate = float(build_schedule(0.03, "constant", 0.99, 6)(step - 1))
    with pytest.raises(
        LossError, match=rf"became {shown} in stage 'wild' at step {step} .*rate {rate:.2g}\)"
    ):
        run(staged, plan, colours, batches)
    kept = values(staged)
    assert all(np.isfinite(value).all() for value in kept.values())
    assert not changed(recorder.validated[1], kept)
    assert all(v.regularizer is None for v in staged.model.variables)


def test_a_bad_validation_loss_stops_the_stage_before_its_weights_are_kept(
    build_staged, colours, eager
):
    # One step is enough: its own loss is that of the weights before it.
    staged = build_staged()
    before = values(staged)
    fields = {"learning_rate": 1e38, "optimizer": "sgd", "monitor": "val_accuracy"}
    with pytest.raises(LossError, match=r"validation loss became nan in stage 'wild' at step 1 "):
        run(staged, stage("wild", epochs=1, **fields), colours, epoch(colours)[:1])
    assert not changed(before, values(staged))


# The audit of a real stage


def test_what_moves_a_frozen_weight_stops_the_run(build_staged, colours, eager):
    staged = build_staged()
    kernel = staged.backbone.model.get_layer("block1_conv").kernel

    def tamper(line):
        kernel.assign_add(kernel)

    with pytest.raises(AuditError, match=r"frozen \(1 of 21\): block1_conv/kernel\."):
        run(staged, stage(), colours, on_line=tamper)


def test_a_rate_too_small_to_move_anything_stops_the_run(build_staged, colours, eager):
    plan = stage(learning_rate=1e-50, unfreeze=1)
    with pytest.raises(AuditError, match=r"trained nothing: none of its 6 .* rate is 1e-50"):
        run(build_staged(), plan, colours)


# Precision, and the same again


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    "policy",
    ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)],
    indirect=True,
)
def test_mixed_precision_trains_float32_weights_to_float32_logits(build_staged, colours, policy):
    staged = build_staged()
    before = values(staged)
    fields = {"layer_decay": 0.5, "clip_norm": 1.0, "accumulate": 2, "ema": 0.5, "l2": 1e-4}
    plan = stage(unfreeze=1, learning_rate=0.05, weight_decay=1e-2, **fields)
    result = run(staged, plan, colours, has_start=True)
    assert staged.backbone.blocks[-1].output.dtype == policy.removeprefix("mixed_")
    assert {str(value.dtype) for value in values(staged).values()} == {"float32"}
    assert staged.stage_model(1).output.dtype == "float32"
    assert staged.model.output.dtype == "float32"
    assert result.audit.moved_variables == 6
    assert layers_of(changed(before, values(staged))) <= {"block3_conv", "hidden_1", "logits"}


@pytest.mark.slow
def test_one_seed_gives_the_same_bits_twice(build_staged, colours):
    tf.config.experimental.enable_op_determinism()
    images, labels = colours
    labels = labels.argmax(axis=1)
    prepared = held_split(images, labels)
    info = DataInfo("", ("a", "b", "c"), {"train": 12}, {"train": (4, 4, 4)}, {})
    plan = stage(unfreeze=1, epochs=1)
    recipe = Recipe(
        task=ImageClassification(augment=Augment(flip=True, rotation=0.1, mixup=0.2)),
        data=Data(source="digits", batch_size=BATCH),
        backbone=Backbone(preset="keras:vgg16"),
        stages=(plan,),
    )

    def weights():
        staged = build_staged(seed=0)
        training = build_task(recipe, info).batches.training(prepared, plan)
        run(staged, plan, colours, training=training)
        return values(staged)

    assert not changed(weights(), weights())


# How long a stage is


@pytest.mark.parametrize(
    ("fields", "examples", "batch_size", "expected"),
    [
        ({"epochs": 3}, 64, 32, (3, 2)),
        ({"epochs": 3}, 65, 32, (3, 3)),
        ({"epochs": 1}, 5, 32, (1, 1)),
        ({"epochs": None, "steps": 6}, 64, 32, (3, 2)),
        ({"epochs": None, "steps": 1}, 64, 32, (1, 1)),
        ({"epochs": None, "steps": 5}, 320, 32, (1, 5)),
        ({"epochs": None, "steps": 11}, 320, 32, (2, 6)),
        ({"epochs": None, "steps": 1000}, 3303, 32, (10, 100)),
    ],
)
def test_a_stage_is_as_long_as_it_says_and_rounded_up_at_most_by_a_round(
    fields, examples, batch_size, expected
):
    plan = stage(**fields)
    length = stage_length(plan, examples, batch_size)
    assert (length.epochs, length.steps_per_epoch) == expected
    assert length.steps == expected[0] * expected[1]
    if plan.steps:
        assert plan.steps <= length.steps < plan.steps + length.epochs


def test_label_smoothing_is_in_the_training_loss():
    labels = np.eye(4, dtype=np.float32)[[0, 2]]
    logits = np.array([[2.0, 0.5, -1.0, 0.0], [0.0, 1.0, 3.0, -2.0]], np.float32)
    log_shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    for smoothing in (0.0, 0.2):
        targets = labels * (1 - smoothing) + smoothing / 4
        loss = SingleLabelObjective(None).loss(stage(label_smoothing=smoothing))
        expected = -(targets * log_shares).sum(axis=1).mean()
        assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-6)
