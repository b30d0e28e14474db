"""A stage's steps are those of `Model.fit`, and numbers that go bad are noticed and named."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from sft_keras import Stage
from sft_keras.core.errors import LossError
from sft_keras.evaluation.output_monitors import CollapseMonitor
from sft_keras.tasks.single_label import SingleLabelObjective
from sft_keras.training.gradient_monitor import GradientMonitor
from sft_keras.training.prepare import prepare_stage
from sft_keras.training.step import Steps

COUNT, BATCH = 20, 8  # the last batch of an epoch has 4


@pytest.fixture(scope="module")
def batches():
    random = np.random.default_rng(0)
    labels = np.arange(COUNT) % 3
    images = random.uniform(0, 100, (COUNT, 16, 16, 3)).astype(np.float32)
    images[np.arange(COUNT), :, :, labels] += 150
    weights = random.uniform(0.5, 2.0, COUNT).astype(np.float32)
    made = tf.data.Dataset.from_tensor_slices(
        (images, np.eye(3, dtype=np.float32)[labels], weights)
    )
    return made.batch(BATCH)


def stage(**fields):
    return Stage(name="top", **({"epochs": 2, "learning_rate": 1e-2} | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"unfreeze": 2, "l1": 1e-3, "l2": 1e-3, "weight_decay": 0.01, "clip_norm": 1.0},
        pytest.param(
            {"unfreeze": "all", "train_batch_norm": True, "accumulate": 2, "layer_decay": 0.7},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_steps_are_those_of_fit(build_staged, batches, fields):
    tf.config.experimental.enable_op_determinism()
    task, plan = SingleLabelObjective(None), stage(**fields)

    def prepared():
        staged, metrics = build_staged(), task.metrics()
        return staged, metrics, prepare_stage(staged, plan, 6, task.loss(plan), metrics)

    staged, _, model = prepared()
    history = model.fit(
        batches, epochs=2, validation_data=batches, verbose=0, shuffle=False
    ).history
    other, metrics, model = prepared()
    steps = Steps(
        model,
        task.loss(plan),
        metrics,
        batch=batches.element_spec,
        validation_batch=batches.element_spec,
        gradient_monitor=GradientMonitor(plan, lambda step: plan.learning_rate),
    )
    for epoch in range(2):
        steps.reset()
        for batch in batches:
            steps.train(batch)
        trained, validated = steps.results(), steps.validate(batches)
        found = {**trained, **{f"val_{name}": value for name, value in validated.items()}}
        assert found.keys() == history.keys()
        for name, value in found.items():
            assert value == pytest.approx(history[name][epoch], rel=1e-5), name
    for one, two in zip(staged.model.variables, other.model.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-5, atol=1e-7)


# Numbers that go bad


def watched(norms, losses=None, **fields):
    watch = GradientMonitor(stage(**fields), lambda step: step)
    observe = tf.function(watch.observe)
    for number, norm in enumerate(norms):
        observe(tf.constant(1.0 if losses is None else losses[number]), tf.constant(norm))
    return watch


def test_the_first_bad_step_is_named_with_its_learning_rate():
    watch = watched([1.0, 2.0, 1.0, 1.0], [1.0, math.nan, 3.0, math.inf])
    with pytest.raises(LossError, match=r"loss became nan in stage 'top' at step 2 .*rate 1\)"):
        watch.require_good()
    watch = watched([1.0, math.inf, math.nan])
    with pytest.raises(LossError, match=r"gradient norm became inf .* at step 2"):
        watch.require_good()
    watched([1.0, 0.0, 5.0]).require_good()


def test_what_was_noted_goes_on_in_another_process():
    first = watched([1.0] * 30 + [500.0])
    second = GradientMonitor(stage(), lambda step: step)
    for one, other in zip(first.variables, second.variables, strict=True):
        other.assign(one)
    assert second.explosion() == first.explosion() is not None
    second.observe(tf.constant(math.nan), tf.constant(1.0))
    with pytest.raises(LossError, match="at step 32"):
        second.require_good()


def test_a_gradient_far_above_the_usual_is_said_once_it_is_known_what_is_usual():
    calm = np.random.default_rng(0).lognormal(0.0, 0.5, 200).tolist()
    assert watched(calm).explosion() is None
    assert watched([1000.0, *calm]).explosion() is None  # the first steps of a new head
    told = watched([*calm, 900.0, *calm]).explosion()
    assert "in stage 'top' at step 201 (learning rate 2e+02)" in told
    assert "stages.top.clip_norm=1.0" in told
    # It is compared with what was just before, however a stage began.
    falling = np.geomspace(1e4, 1.0, 400).tolist()
    assert watched(falling).explosion() is None
    assert watched([*falling, 500.0]).explosion() is not None


def test_a_gradient_that_loss_scaling_leaves_out_is_no_fault(build_staged, batches):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        task, plan = SingleLabelObjective(None), stage()
        staged, metrics = build_staged(), task.metrics()
        model = prepare_stage(staged, plan, 6, task.loss(plan), metrics)
        watch = GradientMonitor(plan, lambda step: 0.1)
        spec = batches.element_spec
        steps = Steps(
            model,
            task.loss(plan),
            metrics,
            batch=spec,
            validation_batch=spec,
            gradient_monitor=watch,
        )
        model.optimizer.dynamic_scale.assign(2.0**60)  # overflows float16
        for batch in batches.repeat(2):
            steps.train(batch)
        assert float(model.optimizer.dynamic_scale) < 2.0**60
        watch.require_good()
    finally:
        keras.config.set_dtype_policy(before)


# A model that gives every example one class


@pytest.mark.parametrize(
    ("given", "right", "is_said"),
    [([1, 1, 1], [0, 1, 2], True), ([1, 2, 1], [0, 1, 2], False), ([1, 1, 1], [1, 1, 1], False)],
)
def test_one_class_for_all_is_said(given, right, is_said):
    watch = CollapseMonitor(["ant", "bee", "cat"])
    for _ in range(2):
        watch.reset_state()
        for one, other in zip(given, right):
            logits = np.eye(3, dtype=np.float32)[[one]] * 9
            watch.update_state(np.eye(3, dtype=np.float32)[[other]], logits)
    warning = watch.warning()
    assert ("as the class 'bee'" in warning) if is_said else warning is None


@pytest.mark.parametrize("clip", [None, 0.05])
def test_a_token_that_occurs_often_is_one_row_of_the_gradient(clip):
    # By Keras itself Adam would square each occurrence by itself, and clipping would count each.
    tokens = np.array([[1, 1, 1, 2], [1, 2, 3, 3]])
    labels = np.eye(2, dtype=np.float32)
    first = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)

    def trained(layer, x):
        keras.utils.set_random_seed(0)
        inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
        pooled = keras.layers.GlobalAveragePooling1D()(layer(inputs))
        model = keras.Model(inputs, keras.layers.Dense(2)(pooled))
        layer.set_weights([first])
        model.compile(keras.optimizers.Adam(1e-2, global_clipnorm=clip))
        model.optimizer.build(model.trainable_variables)
        batches = tf.data.Dataset.from_tensors((x, labels))
        spec, loss = batches.element_spec, keras.losses.CategoricalCrossentropy(from_logits=True)
        steps = Steps(model, loss, (), batch=spec, validation_batch=spec)
        for batch in batches.repeat(3):
            steps.train(batch)
        return layer.get_weights()[0]

    by_lookup = trained(keras.layers.Embedding(5, 3), tokens)
    by_product = trained(keras.layers.Dense(3, use_bias=False), np.eye(5, dtype=np.float32)[tokens])
    np.testing.assert_allclose(by_lookup, by_product, rtol=1e-5, atol=1e-7)
