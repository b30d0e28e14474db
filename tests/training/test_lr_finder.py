"""The learning-rate range test: what it chooses, how it ends, and that it leaves no trace."""

import contextlib
import dataclasses
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from sft_keras import Stage
from sft_keras.backbones.blocks import Block, BuiltBackbone
from sft_keras.backbones.layers import iter_layers
from sft_keras.core.errors import LossError
from sft_keras.core.reporter import SILENT, CallbackReporter
from sft_keras.models.staged import StagedModel
from sft_keras.tasks.single_label import SingleLabelObjective
from sft_keras.training import lr_finder as rate_finder
from sft_keras.training.freezing import set_trainable
from sft_keras.training.lr_finder import RateSweep, find_fall, range_test
from sft_keras.training.prepare import prepare_stage, set_penalties

BATCH = 6


@pytest.fixture(scope="module")
def colours():
    """12 images of 3 colours, float32 [12, 16, 16, 3] in 0..255, and one-hot labels."""
    labels = np.arange(12) % 3
    images = np.random.default_rng(0).uniform(0, 100, (12, 16, 16, 3)).astype(np.float32)
    images[np.arange(12), :, :, labels] += 150
    return images, np.eye(3, dtype=np.float32)[labels]


def endless(images, labels, weights=None):
    """Batches of (x, y, sample weight) without end, in an order of their own each round."""
    weights = np.ones(len(images), np.float32) if weights is None else weights
    data = tf.data.Dataset.from_tensor_slices((images, labels, weights))
    return data.shuffle(len(images), seed=3).batch(BATCH).repeat()


def stage(**fields):
    return Stage(**({"name": "top", "epochs": 1, "learning_rate": 123.0} | fields))


def found(staged, plan, training, **arguments):
    rates = {
        name: arguments.pop(name) for name in ("lowest", "highest", "steps") if name in arguments
    }
    arguments |= {"sweep": RateSweep(**rates)}
    given = {"loss": SingleLabelObjective(None).loss(plan), "reporter": SILENT}
    return range_test(staged, plan, training=training, **(given | arguments))


@pytest.fixture(scope="module")
def tests(build_staged, colours):
    """{optimizer: range test of a head without dropout} and the lines that were shown meanwhile."""
    results, lines = {}, []
    reporter = CallbackReporter(on_progress=lines.append)
    for optimizer in ("adam", "sgd"):
        staged, plan = build_staged(head_dropout=0.0), stage(optimizer=optimizer)
        results[optimizer] = found(staged, plan, endless(*colours), reporter=reporter)
    return results, lines


def state(staged):
    """Everything a range test must not change, each variable's bits included."""
    return (
        [(v.path, v.trainable, v.regularizer, v.numpy().tobytes()) for v in staged.model.variables],
        [(layer.name, layer.trainable) for layer in iter_layers(staged.model)],
    )


# What it leaves behind: nothing


EVERYTHING = {
    "unfreeze": "all",
    "train_batch_norm": True,
    "layer_decay": 0.5,
    "weight_decay": 1e-3,
    "l2": 1e-3,
    "clip_norm": 1.0,
    "ema": 0.9,
    "accumulate": 2,
    "schedule": "one_cycle",
    "warmup": 0.2,
}


@pytest.mark.parametrize(
    ("fields", "boundary"),
    [
        pytest.param({"unfreeze": 1}, True, id="top", marks=pytest.mark.slow),
        pytest.param(EVERYTHING, False, id="all"),
    ],
)
def test_the_model_is_bit_for_bit_as_before(build_staged, colours, fields, boundary):
    staged = build_staged()
    before_the_test = stage(unfreeze=2, l1=0.1)
    set_trainable(staged, before_the_test)
    set_penalties(staged, before_the_test)
    images, labels = colours
    if boundary:
        images = staged.backbone.split(1)[0].predict(images / 64 - 2, verbose=0)
    before = state(staged)
    seeds = [value for path, *_, value in before[0] if path.endswith("seed_generator_state")]
    assert len(seeds) == 4
    with contextlib.suppress(LossError):  # so few noisy steps may show no fall
        found(staged, stage(**fields), endless(images, labels), from_boundary=boundary, steps=40)
    assert state(staged) == before


def test_the_model_is_as_before_when_the_test_is_broken_off(build_staged, colours):
    staged = build_staged()
    before = state(staged)

    def broken_off(line):
        assert state(staged) != before
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found(
            staged,
            stage(unfreeze=1),
            endless(*colours),
            reporter=CallbackReporter(on_progress=broken_off),
        )
    assert state(staged) == before


@pytest.mark.slow
def test_a_stage_after_the_test_is_the_same_as_without_it(build_staged, colours):
    def losses(with_test):
        staged, plan = build_staged(), stage(unfreeze=1, learning_rate=1e-2)
        if with_test:
            with contextlib.suppress(LossError):
                found(staged, plan, endless(*colours), steps=40)
        model = prepare_stage(staged, plan, 8, SingleLabelObjective(None).loss(plan), [])
        return [float(model.train_on_batch(*batch)) for batch in endless(*colours).take(8)]

    assert losses(with_test=True) == losses(with_test=False)


# How it tests


@pytest.mark.slow
def test_the_same_seed_gives_the_same_test(build_staged, colours):
    tf.config.experimental.enable_op_determinism()
    first, second = (
        found(build_staged(head_dropout=0.2), stage(optimizer="sgd"), endless(*colours))
        for _ in range(2)
    )
    assert first == second


def test_every_step_has_its_own_rate_and_its_own_loss(build_staged, colours, tests):
    test = tests[0]["sgd"]
    expected = np.geomspace(1e-7, 10.0, 100)
    np.testing.assert_allclose(test.rates, expected, rtol=1e-4)
    plan = stage(optimizer="sgd")
    model = prepare_stage(
        build_staged(head_dropout=0.0), plan, 1, SingleLabelObjective(None).loss(plan), []
    )
    rate = tf.Variable(0.0)
    model.optimizer.learning_rate = lambda: rate
    # From a rate of about 1 on, rounding errors grow.
    for batch, each, loss in zip(endless(*colours).take(85), expected, test.losses):
        rate.assign(each)
        model.reset_metrics()
        assert float(model.train_on_batch(*batch)) == pytest.approx(loss, rel=1e-3)
    averages = [
        np.average(test.losses[: n + 1], weights=0.85 ** np.arange(n, -1, -1)) for n in range(100)
    ]
    np.testing.assert_allclose(test.smoothed, averages, rtol=1e-6)


def test_it_trains_as_the_stage_does_but_for_the_rate(build_staged, colours, monkeypatch):
    class Prepared(Exception):
        pass

    def noted(staged, plan, *arguments):
        raise Prepared(plan)

    monkeypatch.setattr(rate_finder, "prepare_stage", noted)
    plan = stage(**EVERYTHING)
    with pytest.raises(Prepared) as seen:
        found(build_staged(), plan, endless(*colours))
    varied = {"learning_rate": 1e-7, "schedule": "constant", "warmup": 0.0}
    expected = dataclasses.replace(plan, **varied, ema=None, accumulate=1)
    assert seen.value.args == (expected,)


def test_progress_names_the_stage_and_the_step(tests):
    lines = tests[1]
    assert lines[0].startswith("top  learning-rate range test  step 1/100  rate 1e-07  loss ")


@pytest.mark.parametrize(
    "wrong", [{"steps": 19}, {"lowest": 0.0}, {"lowest": 1.0, "highest": 1.0}], ids=str
)
def test_a_range_that_is_none_is_refused(build_staged, colours, wrong):
    with pytest.raises(ValueError, match=r"at least 20 steps\. Received: "):
        found(build_staged(), stage(), endless(*colours), **wrong)


# What it chooses


def trained(staged, plan, rate, training, steps=40):
    """The mean loss of the last ten of a few steps at a rate; the model is left changed."""
    plan = dataclasses.replace(plan, learning_rate=rate)
    model = prepare_stage(staged, plan, steps, SingleLabelObjective(None).loss(plan), [])
    losses = []
    for batch in training.take(steps):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(*batch)))
    return np.mean(losses[-10:])


@pytest.mark.parametrize("optimizer", ["adam", pytest.param("sgd", marks=pytest.mark.slow)])
def test_the_chosen_rate_trains_and_a_far_higher_one_does_not(
    build_staged, colours, tests, optimizer
):
    plan, test = stage(optimizer=optimizer), tests[0][optimizer]
    start = np.mean(test.losses[:10])

    def after(rate):
        return trained(build_staged(head_dropout=0.0), plan, rate, endless(*colours))

    assert after(test.chosen) < 0.8 * start
    assert not after(test.chosen * 100) < start
    assert test.bounds[0] < test.chosen < test.bounds[1]


@pytest.mark.parametrize("curvature", [0.1, 1.0, 30.0])
def test_on_a_quadratic_it_is_near_the_best_rate_of_gradient_descent(curvature):
    # The loss is the mean square of w * x, whose second derivative is 2 * mean(x ** 2).
    x = np.full((BATCH, 1, 1, 1), math.sqrt(curvature / 2), np.float32)
    inputs = keras.Input((1, 1, 1))
    backbone = keras.Model(inputs, keras.layers.Activation("linear", name="block1")(inputs))
    features = keras.Input((1, 1, 1))
    weight = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="weight")
    head = keras.Model(features, weight(features), name="head")
    block = Block("block1", (backbone.layers[-1],), backbone.output)
    staged = StagedModel(BuiltBackbone(backbone, (block,), ()), head, "linear")
    test = found(
        staged,
        stage(optimizer="sgd"),
        endless(x, np.zeros_like(x)),
        loss=keras.losses.MeanSquaredError(),
        highest=1000.0,
        steps=120,
    )
    # One step at 1 / curvature ends in the minimum; at 2 / curvature descent no longer converges.
    assert 0.05 / curvature < test.chosen < 1.5 / curvature


def curve(noise=0.0, seed=0):
    """A loss of 2 that falls to 1 between steps 40 and 60 and rises again from step 80 on."""
    steps = np.arange(100)
    loss = np.interp(steps, [0, 40, 60, 80, 99], [2, 2, 1, 1, 4])
    return loss * (1 + noise * np.random.default_rng(seed).normal(size=100))


def smoothed(losses):
    weights = 0.85 ** np.arange(len(losses))[::-1]
    return [np.average(losses[: n + 1], weights=weights[-n - 1 :]) for n in range(len(losses))]


def test_the_fall_is_found_where_it_is():
    begins, lowest = find_fall(curve(), curve(), 100)
    assert begins in (41, 42)  # at 42 it is a tenth, but for rounding
    assert lowest == 60
    for seed in range(20):
        losses = curve(noise=0.15, seed=seed)
        begins, lowest = find_fall(losses, smoothed(losses), 100)
        # An average over seven steps lags behind by about as many.
        assert 38 <= begins <= 52
        assert 60 <= lowest <= 85


def test_noise_is_seldom_taken_for_a_fall():
    random = np.random.default_rng(0)
    falls = [random.gamma(4, 0.25, 100) for _ in range(300)]
    taken = sum(find_fall(losses, smoothed(losses), 100) is not None for losses in falls)
    assert taken < 15
    assert find_fall([1.0] * 100, [1.0 - 1e-6 * n for n in range(100)], 100) is None


# How it ends


def test_a_loss_that_runs_away_ends_it(tests):
    test = tests[0]["adam"]
    assert test.ended.startswith("the smoothed loss rose to ")
    assert len(test.rates) == len(test.losses) == len(test.smoothed) < 100
    settled = test.smoothed[20:]
    assert settled[-1] > 4 * min(settled) and settled[-2] <= 4 * min(settled[:-1])


def test_without_that_it_ends_at_the_highest_rate(tests):
    test = tests[0]["sgd"]
    assert test.ended == "it reached the highest rate, 10"
    assert len(test.rates) == len(test.losses) == len(test.smoothed) == 100
    assert test.chosen == float(f"{test.chosen:.2g}")
    assert json.loads(json.dumps(test.as_json())) == test.as_json()


def test_a_lucky_batch_at_the_start_does_not_end_it(build_staged, colours):
    images, labels = colours
    first = (images[:BATCH], labels[:BATCH], np.full(BATCH, 1e-3, np.float32))
    training = tf.data.Dataset.from_tensors(first).concatenate(endless(images, labels))
    test = found(build_staged(head_dropout=0.0), stage(optimizer="sgd"), training)
    assert len(test.losses) > 60


def bad_from(step, colours, value):
    """Batches whose weights, and so their loss, are `value` from a step on."""
    batches = endless(*colours)
    bad = batches.map(lambda x, y, weights: (x, y, weights * value))
    return batches.take(step).concatenate(bad)


@pytest.mark.parametrize("value", [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)])
def test_a_loss_that_is_not_finite_ends_it_and_not_the_run(build_staged, colours, value):
    staged = build_staged(head_dropout=0.0)
    before = state(staged)
    test = found(staged, stage(optimizer="sgd"), bad_from(85, colours, value))
    assert test.ended.startswith("the loss was not finite at a rate of 0.7")
    assert len(test.rates) == len(test.losses) == 85
    assert np.isfinite(test.losses).all()
    assert state(staged) == before


def test_a_loss_that_is_not_finite_at_the_start_is_an_error(build_staged, colours):
    said = (
        r"'top' found no rate to train with: it ended at step 4 of 100.* not finite at a rate of 1"
    )
    with pytest.raises(LossError, match=said + r".*--set=stages\.top\.learning_rate=NUMBER"):
        found(build_staged(), stage(), bad_from(3, colours, np.nan))


def test_a_loss_that_never_falls_is_an_error_that_says_what_to_do(build_staged, colours):
    staged = build_staged(head_dropout=0.0)
    before = state(staged)
    # Labels that are what the model answers: its loss is as low as it gets.
    answers = staged.model.predict(colours[0], verbose=0)
    with pytest.raises(LossError) as still:
        found(staged, stage(optimizer="sgd"), endless(colours[0], answers), highest=0.1)
    assert "found no rate to train with. Expected: a loss that falls" in str(still.value)
    assert str(still.value).endswith("--set=stages.top.learning_rate=0.001.")
    assert state(staged) == before


def test_where_the_loss_only_rises_a_tenth_of_that_rate_is_chosen(build_staged, colours):
    # As in a stage that goes on from a trained head: a run must not end there.
    staged = build_staged(head_dropout=0.0)
    answers = staged.model.predict(colours[0], verbose=0)
    test = found(staged, stage(), endless(colours[0], answers))
    assert 1e-5 < test.chosen < 1e-1
    assert test.bounds[0] == test.chosen == pytest.approx(test.bounds[1] / 10, rel=0.1)
    assert test.rule.startswith(f"a tenth of {test.bounds[1]:.2g}, from which on the loss rises")
    rises = test.rates.index(test.bounds[1])
    start = np.mean(test.losses[:20])
    assert min(test.smoothed[rises:]) > start >= test.smoothed[rises - 1]
