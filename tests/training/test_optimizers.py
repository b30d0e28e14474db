"""The learning rate at each step, and what one update of each optimizer does to the variables."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from sft_keras import Stage
from sft_keras.core.errors import RecipeError
from sft_keras.recipe.optimizers import OPTIMIZERS
from sft_keras.training.freezing import set_trainable
from sft_keras.training.optimizers import build_optimizer, build_schedule, layer_multipliers

RATE = 0.8
STEPS = 10


def half_cosine(share):
    return RATE * 0.5 * (1 + math.cos(math.pi * share))


def towards(end, share):
    """One-cycle's way down, from the peak to `end`."""
    return end + (RATE - end) * 0.5 * (1 + math.cos(math.pi * share))


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0.0, {0: RATE, 5: RATE, 9: RATE}),
        ("constant", 0.4, {0: 0.2, 1: 0.4, 3: 0.8, 4: 0.8, 9: 0.8}),
        ("linear", 0.0, {0: 0.8, 1: 0.72, 5: 0.4, 9: 0.08, 10: 0.0, 99: 0.0}),
        ("linear", 0.4, {0: 0.2, 3: 0.8, 4: 0.8, 7: 0.4, 10: 0.0}),
        ("cosine", 0.0, {0: 0.8, 2: half_cosine(0.2), 5: 0.4, 9: half_cosine(0.9), 10: 0.0}),
        ("cosine", 0.5, {0: 0.16, 4: 0.8, 5: 0.8, 7: half_cosine(0.4), 10: 0.0}),
        ("one_cycle", 0.0, {0: 0.8 / 3, 2: 0.8, 3: 0.8, 5: towards(8e-5, 2 / 7), 10: 8e-5}),
        ("one_cycle", 0.5, {0: 0.16, 4: 0.8, 5: 0.8, 7: towards(8e-5, 0.4), 10: 8e-5, 99: 8e-5}),
    ],
)
def test_the_schedule_gives_the_rate_of_its_formula(schedule, warmup, expected):
    built = build_schedule(RATE, schedule, warmup, STEPS)
    for step, rate in expected.items():
        assert float(built(step)) == pytest.approx(rate, rel=1e-5, abs=1e-7)
    again = type(built)(**built.get_config())
    assert float(again(7)) == float(built(7))


def test_a_stage_shorter_than_its_warm_up_still_has_rates():
    for schedule in ("constant", "linear", "cosine", "one_cycle"):
        rates = [float(build_schedule(RATE, schedule, 0.9, 1)(step)) for step in range(2)]
        assert rates[0] == pytest.approx(RATE)


@pytest.fixture(scope="module")
def staged(build_staged):
    return build_staged()


def stage(unfreeze="all", **fields):
    given = {"optimizer": "sgd", "learning_rate": RATE, "steps": STEPS}
    return Stage(name="top", unfreeze=unfreeze, **(given | fields))


class Update:
    """Applies gradients through a stage's optimizer and keeps what they did."""

    def __init__(self, staged, stage, seed=0):
        set_trainable(staged, stage)
        self.optimizer = build_optimizer(stage, staged, STEPS)
        self.variables = staged.stage_model(stage.unfreeze).trainable_variables
        random = np.random.default_rng(seed)
        for variable in self.variables:
            variable.assign(random.normal(size=variable.shape))
        self.start = self.values()
        self.gradients = {
            v.path: random.normal(size=v.shape).astype(np.float32) for v in self.variables
        }

    def values(self):
        return {v.path: v.numpy() for v in self.variables}

    def apply(self, gradients=None):
        gradients = self.gradients if gradients is None else gradients
        self.optimizer.apply(
            [tf.constant(gradients[v.path]) for v in self.variables], self.variables
        )
        return self.moved()

    def moved(self):
        return {path: self.start[path] - value for path, value in self.values().items()}


def zeros(update):
    return {path: np.zeros_like(gradient) for path, gradient in update.gradients.items()}


def depth(path):
    """Blocks down from the head."""
    order = ("block3", "block2", "block1", "stem")
    return next((k for k, name in enumerate(order, 1) if path.startswith(name)), 0)


def close(actual, expected):
    # A difference of two numbers of up to 16, whose float32 neighbours are 1e-6 apart: exact but
    # for the rounding of both.
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=4e-6)


def test_fit_applies_the_schedules_rate_step_by_step(staged):
    plan = stage(schedule="cosine", warmup=0.4)
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    weights = []
    recording = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: weights.append(model.get_weights()[0].item())
    )
    weights.append(model.get_weights()[0].item())
    # The loss is the weight itself, so each step moves it by the rate.
    model.compile(build_optimizer(plan, staged, STEPS), loss=lambda y, out: out)
    ones = tf.data.Dataset.from_tensors((tf.ones((1, 1)), tf.ones((1, 1)))).repeat(STEPS)
    model.fit(ones, callbacks=[recording], shuffle=False, verbose=0)
    schedule = build_schedule(RATE, "cosine", 0.4, STEPS)
    expected = [float(schedule(step)) for step in range(STEPS)]
    np.testing.assert_allclose(-np.diff(weights), expected, atol=1e-6)


def test_layer_decay_scales_the_step_of_each_block(staged):
    update = Update(staged, stage(layer_decay=0.5))
    assert {depth(path) for path in update.start} == {0, 1, 2, 3, 4}
    for path, moved in update.apply().items():
        close(moved, RATE * 0.5 ** depth(path) * update.gradients[path])


def test_layer_decay_counts_from_the_head_whatever_is_unfrozen(staged):
    update = Update(staged, stage(unfreeze=2, layer_decay=0.1))
    assert {depth(path) for path in update.start} == {0, 1, 2}
    for path, moved in update.apply().items():
        close(moved, RATE * 0.1 ** depth(path) * update.gradients[path])


def test_layer_decay_tells_two_variables_of_one_name_apart(staged_of_equal_names):
    plan = stage(layer_decay=0.5)
    factors = layer_multipliers(staged_of_equal_names, plan)
    set_trainable(staged_of_equal_names, plan)
    variables = staged_of_equal_names.stage_model("all").trainable_variables
    assert [factors[id(v)] for v in variables] == [0.5, 0.5, 1.0, 1.0]
    optimizer = build_optimizer(plan, staged_of_equal_names, STEPS)
    before = [v.numpy() for v in variables]
    optimizer.apply([tf.ones(v.shape) for v in variables], variables)
    for variable, value, factor in zip(variables, before, (0.5, 0.5, 1.0, 1.0)):
        close(value - variable.numpy(), np.full(value.shape, RATE * factor))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_weight_decay_shrinks_kernels_alone_and_with_the_blocks_rate(
    staged, optimizer, layer_decay
):
    plan = stage(optimizer=optimizer, layer_decay=layer_decay, weight_decay=0.1)
    update = Update(staged, plan)
    kernels = {path for path in update.start if path.endswith("kernel")}
    assert len(kernels) == len(update.start) // 2  # and as many biases and scales
    for path, moved in update.apply(zeros(update)).items():
        rate = RATE * layer_decay ** depth(path) if path in kernels else 0.0
        close(moved, rate * 0.1 * update.start[path])


def test_weight_decay_leaves_trained_normalisation_alone(staged):
    update = Update(staged, stage(weight_decay=0.1, train_batch_norm=True))
    gammas = [path for path in update.start if path.endswith(("gamma", "beta"))]
    moved = update.apply(zeros(update))
    assert len(gammas) == 6
    assert all((moved[path] == 0).all() for path in gammas)
    assert (moved["stem_conv/kernel"] != 0).all()


def test_weight_decay_and_gradient_add_up_under_layer_decay(staged):
    update = Update(staged, stage(layer_decay=0.5, weight_decay=0.1))
    moved = update.apply()
    rate = RATE * 0.5**4
    kernel, bias = "stem_conv/kernel", "stem_conv/bias"
    close(moved[kernel], rate * (update.gradients[kernel] + 0.1 * update.start[kernel]))
    close(moved[bias], rate * update.gradients[bias])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_clipping_bounds_the_global_norm_of_what_is_applied(staged, accumulate):
    update = Update(staged, stage(clip_norm=0.01, accumulate=accumulate))
    for _ in range(accumulate):
        moved = update.apply()
    applied = np.concatenate([value.ravel() for value in moved.values()]) / RATE
    gradient = np.concatenate([value.ravel() for value in update.gradients.values()])
    assert np.linalg.norm(gradient) > 1
    assert np.linalg.norm(applied) == pytest.approx(0.01, rel=1e-3)
    direction = gradient / np.linalg.norm(gradient)
    np.testing.assert_allclose(applied, 0.01 * direction, atol=1e-6)


def test_a_gradient_below_the_bound_is_not_clipped(staged):
    update = Update(staged, stage(clip_norm=1e3))
    for path, moved in update.apply().items():
        close(moved, RATE * update.gradients[path])


def test_two_accumulated_batches_are_one_step_on_both(staged):
    random = np.random.default_rng(0)
    images = tf.constant(random.uniform(0, 255, (8, 16, 16, 3)), tf.float32)
    labels = tf.one_hot(np.arange(8) % 3, 3)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)

    def gradients(update, part):
        with tf.GradientTape() as tape:
            value = loss(labels[part], staged.stage_model("all")(images[part], training=False))
        found = tape.gradient(value, [v.value for v in update.variables])
        return {v.path: g.numpy() for v, g in zip(update.variables, found)}

    whole = Update(staged, stage())
    expected = whole.apply(gradients(whole, slice(0, 8)))
    halves = Update(staged, stage(accumulate=2))
    first = gradients(halves, slice(0, 4))
    second = gradients(halves, slice(4, 8))
    assert all((moved == 0).all() for moved in halves.apply(first).values())
    moved = halves.apply(second)
    for path, value in moved.items():
        close(value, expected[path])
    assert max(np.abs(first[path] - second[path]).max() for path in first) > 1e-2


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_the_table_moves_every_variable(staged, name, layer_decay):
    fields = {"layer_decay": layer_decay, "learning_rate": 0.01, "weight_decay": 0.01}
    update = Update(staged, stage(unfreeze=1, optimizer=name, **fields))
    moved = update.apply()
    assert all(np.abs(value).max() > 0 for value in moved.values())
    assert all(np.isfinite(value).all() for value in moved.values())
    assert type(update.optimizer).__name__.lower() == name


def test_what_keras_refuses_is_said_with_the_stages_name(staged):
    plan = stage(optimizer_arguments={"momentum": 7.0})
    with pytest.raises(RecipeError, match=r"optimizer of stage 'top' \('sgd'\): .*momentum"):
        build_optimizer(plan, staged, STEPS)
