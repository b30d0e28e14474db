"""The model cut at the freeze boundary: frozen blocks are in inference mode, whatever fit says."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

CUTS = (0, 1, 2, 3, 4, "all")


@pytest.fixture(scope="module")
def staged(build_staged):
    staged = build_staged()
    random = np.random.default_rng(0)
    for variable in staged.model.variables:  # Nothing at its start, or a layer could be left out.
        if variable.dtype == "float32":
            variable.assign(variable + random.uniform(0.1, 0.3, variable.shape))
    return staged


@pytest.fixture(scope="module")
def headless(staged):
    """The same backbone with a head that passes on what it gets."""
    return without_head(staged, staged.backbone)


@pytest.fixture(scope="module")
def images():
    return tf.constant(np.random.default_rng(1).uniform(0, 255, (6, 16, 16, 3)), tf.float32)


def without_head(staged, backbone):
    features = keras.Input(backbone.model.output_shape[1:])
    same = keras.Model(features, keras.layers.Identity()(features), name="head")
    return dataclasses.replace(staged, backbone=backbone, head=same)


def batch_norm_state(staged):
    return {v.path: v.numpy() for v in staged.model.variables if "norm" in v.path}


def changed(before, after):
    return {path for path in before if not np.array_equal(before[path], after[path])}


def test_plain_keras_trains_what_was_called_with_training_false(staged, images):
    # The trap that `FrozenPrefix` is there for; if Keras mends it one day, this fails.
    before = batch_norm_state(staged)
    inputs = keras.Input((16, 16, 3))
    naive = keras.Model(inputs, staged.backbone.model(inputs, training=False))
    naive.compile(keras.optimizers.SGD(0.0), "mse")
    naive.fit(images, naive(images), batch_size=6, verbose=0)
    moved = changed(before, batch_norm_state(staged))
    assert {path.split("/")[-1] for path in moved} == {"moving_mean", "moving_variance"}
    assert {path.split("_")[0] for path in moved} == {"block1", "block2", "block3"}
    first, second = (naive(images, training=True).numpy() for _ in range(2))
    assert not np.array_equal(first, second)  # dropout is on


def test_frozen_blocks_answer_in_training_as_they_do_in_inference(headless, images):
    before = batch_norm_state(headless)
    expected = headless.backbone.model(images / 64 - 2.0).numpy()
    features = headless.stage_model(0)
    for training in (False, True, True):
        np.testing.assert_array_equal(features(images, training=training).numpy(), expected)
    assert not changed(before, batch_norm_state(headless))


@pytest.mark.parametrize(("unfreeze", "above"), [(1, {"block3"}), (2, {"block2", "block3"})])
def test_dropout_and_statistics_follow_the_flag_above_the_cut_alone(
    headless, images, unfreeze, above
):
    before = batch_norm_state(headless)
    features = headless.stage_model(unfreeze)
    first, second = (features(images, training=True).numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    moved = changed(before, batch_norm_state(headless))
    assert {path.split("_")[0] for path in moved} == above


@pytest.mark.parametrize(("unfreeze", "drops"), [(0, False), (1, True)])
def test_a_layer_whose_call_takes_no_flag_is_in_the_mode_of_its_side(
    staged, images, unfreeze, drops
):
    # The dropout inside block2 follows the call around it: that of the stage's model, in training.
    *lower, top = staged.backbone.blocks[:3]
    assert top.name == "block2"
    model = keras.Model(staged.backbone.model.input, top.output, name="tiny")
    backbone = dataclasses.replace(staged.backbone, model=model, blocks=(*lower, top))
    features = without_head(staged, backbone).stage_model(unfreeze)
    assert (features(images, training=True).numpy() == 0).any() == drops


def test_dropout_of_the_head_is_on_while_the_backbone_is_frozen(staged, images):
    model = staged.stage_model(0)
    first, second = (model(images, training=True).numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    first, second = (model(images, training=False).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("unfreeze", CUTS)
def test_the_cut_model_computes_what_the_whole_one_does(staged, images, unfreeze):
    logits = staged.stage_model(unfreeze)(images, training=False)
    whole = staged.model(images, training=False).numpy()
    np.testing.assert_array_equal(tf.nn.softmax(logits).numpy(), whole)
    assert np.ptp(whole, axis=0).min() > 1e-3  # the answers do depend on the images


@pytest.mark.parametrize(
    ("unfreeze", "above"), [(0, set()), (1, {"block3"}), (2, {"block2", "block3"})]
)
def test_no_gradient_reaches_below_the_cut_whatever_the_flags_say(staged, images, unfreeze, above):
    model = staged.stage_model(unfreeze)
    weights = [v for v in staged.backbone.model.weights if v.trainable]
    assert {v.path.split("_")[0] for v in weights} == {"stem", "block1", "block2", "block3"}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=False) ** 2)
    gradients = tape.gradient(loss, [v.value for v in weights])
    assert {v.path.split("_")[0] for v, g in zip(weights, gradients) if g is not None} == above


def test_the_model_takes_raw_pixels_and_answers_with_probabilities(staged, images):
    answers = staged.model(images, training=False)
    features = staged.backbone.model(images / 64 - 2.0, training=False)
    logits = staged.head(features, training=False)
    np.testing.assert_allclose(answers, tf.nn.softmax(logits), rtol=1e-6)
    np.testing.assert_allclose(answers.numpy().sum(axis=1), 1.0, rtol=1e-6)


def test_a_calibrated_model_divides_its_logits_and_is_loaded_by_keras_alone(
    staged, images, tmp_path
):
    from sft_keras.evaluation.calibration import apply_temperature

    given = staged.model(images, training=False).numpy()
    calibrated = staged.with_temperature(2.5)
    np.testing.assert_allclose(
        calibrated(images, training=False), apply_temperature(given, 2.5), rtol=1e-4, atol=1e-6
    )
    assert len(calibrated.variables) == len(staged.model.variables)
    calibrated.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded(images, training=False), calibrated(images, training=False)
    )
