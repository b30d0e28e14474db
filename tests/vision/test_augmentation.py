"""Augmentation as a function of the seed, and the batches that training and evaluation get."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from prepared_split import held_split
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.core.errors import RecipeError
from sft_keras.data.examples import DataInfo
from sft_keras.tasks import Augment, ImageClassification
from sft_keras.tasks.base import build_task
from sft_keras.tasks.class_weights import class_weights
from sft_keras.vision.augmentation import build_augmentation

ONE_BY_ONE = (
    {"flip": True},
    {"flip": "both"},
    {"crop": 0.3},
    {"rotation": 0.2},
    {"zoom": 0.3},
    {"translation": 0.3},
    {"brightness": 0.4},
    {"contrast": 0.4},
    {"rand_augment": 0.5},
    {"erasing": 0.8},
    {"mixup": 0.4},
    {"cutmix": 1.0},
)


def noise(count, size=16):
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3))
    return images.astype(np.uint8)


def augmented(augment, images, labels, seeds, apply=None):
    """What a `tf.data` map makes of the same batch at each of the seeds, one after the other."""
    apply = apply or build_augmentation(augment)
    images, labels = tf.constant(images), tf.constant(labels)
    steps = tf.data.Dataset.from_tensor_slices(tf.constant(seeds, tf.int64))
    return list(steps.map(lambda seed: apply(images, labels, seed)).as_numpy_iterator())


@pytest.mark.parametrize("fields", ONE_BY_ONE, ids=str)
def test_each_change_is_a_function_of_the_seed_and_keeps_the_range(fields):
    images, labels = noise(8), np.eye(8, dtype=np.float32)
    seeds = [(7, 1), (7, 2), (7, 1)]
    first, other, again = augmented(Augment(**fields), images, labels, seeds)
    for changed, mixed in (first, other):
        assert changed.dtype == mixed.dtype == np.float32
        assert changed.shape == images.shape
        assert changed.min() >= 0
        assert changed.max() <= 255
        assert np.ptp(changed) > 50
        np.testing.assert_allclose(mixed.sum(axis=1), 1.0, atol=1e-5)
        assert np.abs(changed - images).max() > 1
        if not {"mixup", "cutmix"} & fields.keys():
            np.testing.assert_array_equal(mixed, labels)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_all_together_do_not_depend_on_what_was_drawn_before():
    # A second map, asked in another order, stands for a run that was taken up midway.
    augment = Augment(flip="both", crop=0.1, rotation=0.1, zoom=0.1, erasing=0.5, mixup=0.4)
    images, labels = noise(8), np.eye(8, dtype=np.float32)
    apply = build_augmentation(augment)
    _, second, third = augmented(augment, images, labels, [(0, 1), (0, 2), (0, 3)], apply)
    later, earlier = augmented(augment, images, labels, [(0, 3), (0, 2)], apply)
    for expected, received in ((third, later), (second, earlier)):
        np.testing.assert_array_equal(expected[0], received[0])
        np.testing.assert_array_equal(expected[1], received[1])


@pytest.mark.parametrize(("flip", "ways"), [(True, 2), ("both", 4)])
def test_flips_only_turn_images_over_each_on_its_own(flip, ways):
    images = noise(32)
    ((flipped, _),) = augmented(Augment(flip=flip), images, np.eye(32, dtype=np.float32), [(0, 1)])
    turned = (images, images[:, :, ::-1], images[:, ::-1], images[:, ::-1, ::-1])
    found = np.array([(flipped == way).all(axis=(1, 2, 3)) for way in turned])
    np.testing.assert_array_equal(found.sum(axis=0), 1)
    assert (found.sum(axis=1) > 0).sum() == ways
    assert found[:2].any(axis=1).all()


def shades(count, size):
    """Images of one grey each, and a class for each."""
    grey = np.linspace(0, 255, count).astype(np.uint8)
    return grey, np.broadcast_to(grey[:, None, None, None], (count, size, size, 3)).copy()


def test_mixup_mixes_labels_as_it_mixes_pixels():
    grey, images = shades(8, 4)
    steps = augmented(Augment(mixup=1.0), images, np.eye(8, dtype=np.float32), [(0, 1), (0, 2)])
    for mixed, labels in steps:
        expected = np.broadcast_to((labels @ grey)[:, None, None, None], images.shape)
        np.testing.assert_allclose(mixed, expected, atol=1e-3)
        assert ((labels > 0).sum(axis=1) == 2).any()


def test_cutmix_mixes_labels_by_the_share_of_the_pixels():
    grey, images = shades(8, 64)
    steps = augmented(Augment(cutmix=1.0), images, np.eye(8, dtype=np.float32), [(0, 1), (0, 2)])
    for mixed, labels in steps:
        shares = np.stack([(mixed == shade).mean(axis=(1, 2, 3)) for shade in grey], axis=1)
        np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-6)
        # The box's sides are no whole pixels.
        np.testing.assert_allclose(labels, shares, atol=2.5 / 64)
        assert ((shares > 0.1).sum(axis=1) == 2).any()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_precision_of_the_model_does_not_blur_the_images(policy):
    images, labels = noise(4), np.eye(4, dtype=np.float32)
    augment = Augment(rotation=0.1, mixup=0.4)
    expected = augmented(augment, images, labels, [(0, 1)])[0]
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        received = augmented(augment, images, labels, [(0, 1)])[0]
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_array_equal(received[0], expected[0])
    np.testing.assert_array_equal(received[1], expected[1])


# Batches

INFO = DataInfo(
    source="",
    class_names=("rose", "tulip", "daisy"),
    sizes={"train": 12},
    counts={"train": (6, 4, 2)},
    origin={},
)
LABELS = np.repeat(np.arange(3), INFO.counts["train"]).astype(np.int32)


def stage(name="head", **fields):
    return Stage(name=name, epochs=1, learning_rate=0.1, **fields)


def recipe(seed=0, augment=None, **fields):
    return Recipe(
        task=ImageClassification(augment=augment or Augment()),
        data=Data(source="digits", batch_size=4),
        backbone=Backbone(preset="keras:vgg16"),
        stages=(stage("head", **fields), stage("top", **fields)),
        seed=seed,
    )


def batches(plan, images, which=0, count=3, first=0):
    """(images, labels, sample weights) of `count` steps of a stage; 3 steps are an epoch."""
    task = build_task(plan, INFO)
    found = task.batches.training(held_split(images, LABELS), plan.stages[which])
    return list(found.skip(first).take(count).as_numpy_iterator())


def test_without_augmentation_training_gets_the_pixels_as_they_are():
    assert build_augmentation(Augment()) is None
    images = noise(12)
    steps = batches(recipe(), images)
    pixels = np.concatenate([step[0] for step in steps])
    labels = np.concatenate([step[1] for step in steps])
    assert pixels.dtype == labels.dtype == np.float32
    # Shuffled: each image once, with its own label.
    places = [int(np.flatnonzero((images == one).all(axis=(1, 2, 3)))[0]) for one in pixels]
    assert sorted(places) == list(range(12))
    assert places != list(range(12))
    np.testing.assert_array_equal(labels, np.eye(3)[LABELS[places]])
    assert all((weights == 1).all() for _, _, weights in steps)


def test_evaluation_gets_the_pixels_as_they_are_in_stored_order():
    images = noise(12)
    plan = recipe(augment=Augment(flip=True, brightness=0.5, mixup=1.0), class_weights="balanced")
    steps = list(
        build_task(plan, INFO).batches.evaluation(held_split(images, LABELS)).as_numpy_iterator()
    )
    assert [len(step) for step in steps] == [2, 2, 2]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in steps]), images)
    np.testing.assert_array_equal(np.concatenate([y for _, y in steps]), np.eye(3)[LABELS])


@pytest.fixture(scope="module")
def alike():
    """Twelve times one image, so that only augmentation tells batches apart."""
    return np.repeat(noise(1), 12, axis=0)


def test_augmentation_differs_between_steps_epochs_stages_and_seeds(alike):
    augment = Augment(brightness=0.5)
    seen = [step[0] for step in batches(recipe(augment=augment), alike, count=6)]
    seen += [step[0] for step in batches(recipe(augment=augment), alike, which=1)]
    seen += [step[0] for step in batches(recipe(seed=1, augment=augment), alike)]
    assert len({step.tobytes() for step in seen}) == 12
    assert len({image.tobytes() for step in seen for image in step}) == 48


def test_a_step_is_the_same_whether_or_not_those_before_it_were_taken(alike):
    plan = recipe(augment=Augment(flip=True, brightness=0.5, mixup=0.4))
    whole = batches(plan, alike, count=6)
    for taken, again in zip(whole[4:], batches(plan, alike, first=4, count=2)):
        for expected, received in zip(taken, again):
            np.testing.assert_array_equal(received, expected)


# Class weights


def test_balanced_weights_are_those_of_scikit_learn():
    received = class_weights(stage(class_weights="balanced"), INFO)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(received, expected, rtol=1e-6)
    np.testing.assert_allclose(received, [12 / (3 * 6), 12 / (3 * 4), 12 / (3 * 2)], rtol=1e-6)


def test_balanced_weights_bear_a_class_without_examples():
    info = dataclasses.replace(
        INFO, class_names=(*INFO.class_names, "weed"), counts={"train": (6, 4, 2, 0)}
    )
    received = class_weights(stage(class_weights="balanced"), info)
    np.testing.assert_allclose(received, [12 / 18, 12 / 12, 12 / 6, 0.0], rtol=1e-6)


def test_weights_are_given_by_name_and_are_1_where_none_is_given():
    received = class_weights(stage(class_weights={"daisy": 3.0, "rose": 0.5}), INFO)
    np.testing.assert_array_equal(received, np.float32([0.5, 1.0, 3.0]))
    np.testing.assert_array_equal(class_weights(stage(), INFO), np.ones(3, np.float32))


def test_a_weight_for_a_class_that_is_not_there_is_refused():
    message = r"`stages.head.class_weights` .* Received: tulips. Did you mean 'tulip'\? .* daisy\."
    with pytest.raises(RecipeError, match=message):
        class_weights(stage(class_weights={"tulips": 2.0, "rose": 1.0}), INFO)


def test_each_example_weighs_what_its_class_does():
    steps = batches(recipe(class_weights="balanced"), noise(12))
    labels = np.concatenate([labels for _, labels, _ in steps]).argmax(axis=1)
    weights = np.concatenate([weights for *_, weights in steps])
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, compute_sample_weight("balanced", labels), rtol=1e-6)


def test_weights_follow_mixed_labels():
    plan = recipe(augment=Augment(mixup=1.0), class_weights={"rose": 0.5, "tulip": 2.0})
    steps = batches(plan, noise(12))
    labels = np.concatenate([labels for _, labels, _ in steps])
    weights = np.concatenate([weights for *_, weights in steps])
    assert ((labels > 0.05).sum(axis=1) > 1).any()
    np.testing.assert_allclose(weights, labels @ [0.5, 2.0, 1.0], rtol=1e-5)
