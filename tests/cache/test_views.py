"""Stored augmented views: what they hold, and which of them an epoch shows."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from prepared_split import held_split

from sft_keras import Backbone, Data, Recipe, Stage, Store
from sft_keras.cache.feature_cache import FeatureCache
from sft_keras.core.errors import RecipeError
from sft_keras.core.reporter import SILENT
from sft_keras.data.batches import epoch_views, training_batches
from sft_keras.data.examples import DataInfo
from sft_keras.data.features import InMemoryFeatures
from sft_keras.tasks import Augment, ImageClassification
from sft_keras.tasks.base import build_task
from sft_keras.training.prepare import prepare_stage

VIEWS, SIZE = 3, 10
INFO = DataInfo("noise", ("a", "b", "c"), {"train": SIZE, "validation": 6}, {}, {})


@pytest.fixture(scope="module")
def prepared():
    random = np.random.default_rng(0)
    return {
        name: held_split(
            random.integers(0, 256, (size, 16, 16, 3)).astype(np.uint8), np.arange(size) % 3, name
        )
        for name, size in INFO.sizes.items()
    }


def recipe(augment, **store):
    return Recipe(
        task=ImageClassification(augment=augment),
        data=Data(source="digits", batch_size=4),
        backbone=Backbone(preset="keras:vgg16"),
        stages=(Stage(name="head", epochs=4, learning_rate=0.05),),
        store=Store(views=VIEWS, **store),
        cache="disk" if "folder" in store else "memory",
    )


def source_of(plan, staged, prepared):
    store = FeatureCache(staged, plan, prepared, INFO, reporter=SILENT)
    return store.input_of(plan.stages[0])


AUGMENTS = [Augment(flip=True, rotation=0.2), Augment(mixup=1.0), Augment(cutmix=1.0, crop=0.3)]


@pytest.mark.parametrize("augment", AUGMENTS, ids=["alone", "mixup", "cutmix"])
def test_a_view_is_what_the_prefix_gives_for_an_augmented_image_with_its_label(
    augment, prepared, build_staged
):
    plan, staged = recipe(augment), build_staged()
    source = source_of(plan, staged, prepared)
    assert f"computed once for {VIEWS * SIZE + 6} examples" in source.story
    share = (SIZE + 6) / (VIEWS * SIZE + 6)  # an epoch shows a view of each
    found = source.frozen_pass
    assert found["epoch_seconds"] == pytest.approx(found["seconds"] * share)
    split = source.prepared["train"]
    assert (split.views, split.has_targets) == (VIEWS, True)
    prefix = staged.prefix_model([len(staged.backbone.blocks)])
    found = {}
    views = build_task(plan, INFO).batches.augmented_views(prepared["train"], VIEWS)
    for rows, images, labels in views:
        stored = split.features.take(rows)
        np.testing.assert_allclose(stored["input"], prefix(images, training=False), atol=1e-5)
        np.testing.assert_array_equal(stored["target"], labels)
        found.update(zip(rows.numpy().tolist(), images.numpy()))
    assert sorted(found) == list(range(VIEWS * SIZE))
    originals = prepared["train"].features.tensors.numpy()
    pixels = {image.tobytes() for image in found.values()}
    assert len(pixels) > SIZE  # not the same view over and over
    for example in range(SIZE):
        if augment.mixup:  # a mixture with its own image as one part
            targets = [split.features.take([v * SIZE + example])["target"] for v in range(VIEWS)]
            own = prepared["train"].examples.labels[example]
            assert all(target[0, own] > 0 for target in targets)
            np.testing.assert_allclose([np.sum(target) for target in targets], 1.0, rtol=1e-6)
    assert any((found[row] != originals[row % SIZE]).any() for row in found)


def test_images_are_mixed_with_those_of_other_classes(prepared, build_staged):
    # In stored order a batch may be of one class alone, as folders of classes are.
    images = prepared["train"].features.tensors.numpy()
    by_class = {**prepared, "train": held_split(images, np.sort(np.arange(SIZE) % 3))}
    split = source_of(recipe(Augment(mixup=1.0)), build_staged(), by_class).prepared["train"]
    targets = split.features.take(tf.range(VIEWS * SIZE, dtype=tf.int64))["target"].numpy()
    assert ((targets > 0.05).sum(axis=1) > 1).mean() > 0.3


def test_in_as_many_epochs_as_there_are_views_each_example_shows_all_of_its_views(prepared):
    split = dataclasses.replace(prepared["train"], views=VIEWS)
    shown = [epoch_views(split, 0, 0, epoch).numpy() for epoch in range(2 * VIEWS)]
    for first in (0, VIEWS):
        chosen = np.stack(shown[first : first + VIEWS])
        assert (np.sort(chosen, axis=0) == np.arange(VIEWS)[:, np.newaxis]).all()
    assert len(set(map(bytes, shown))) == len(shown)
    assert (epoch_views(split, 0, 0, 4).numpy() == shown[4]).all()
    for other in (epoch_views(split, 1, 0, 0), epoch_views(split, 0, 1, 0)):
        assert (other.numpy() != shown[0]).any()


def test_batches_take_the_rows_of_the_epochs_views(prepared):
    rows = {"input": tf.range(VIEWS * SIZE), "target": tf.range(VIEWS * SIZE) + 100}
    split = dataclasses.replace(
        prepared["train"], features=InMemoryFeatures(rows), views=VIEWS, has_targets=True
    )
    for epoch in range(4):
        views = epoch_views(split, 7, 1, epoch).numpy()
        seen = []
        for batch in training_batches(split, 4, 7, 1, epochs=1, first_epoch=epoch):
            index = batch["index"].numpy()
            np.testing.assert_array_equal(batch["input"], views[index] * SIZE + index)
            np.testing.assert_array_equal(batch["target"], batch["input"] + 100)
            np.testing.assert_array_equal(batch["label"], prepared["train"].examples.labels[index])
            seen += index.tolist()
        assert sorted(seen) == list(range(SIZE))


@pytest.mark.slow
def test_views_on_disk_are_found_again_and_train_alike(prepared, build_staged, tmp_path):
    plan = recipe(Augment(mixup=0.5, flip=True), folder=str(tmp_path))
    losses = []
    for story in ("computed once", "found on disk", "found on disk"):
        staged, stage = build_staged(), plan.stages[0]
        source = source_of(plan, staged, prepared)
        assert source.story.startswith(story)
        task = build_task(plan, dataclasses.replace(INFO, counts={"train": (4, 3, 3)}))
        loss = task.objective.loss(stage)
        model = prepare_stage(staged, stage, 12, loss, [], from_boundary=True)
        batches = task.batches.training(source.prepared["train"], stage)
        losses.append([model.train_on_batch(*batch) for batch in batches.take(12)])
    assert losses[0] == losses[1] == losses[2]
    for change in ({"seed": 1}, {"task": ImageClassification(augment=Augment(flip=True))}):
        other = dataclasses.replace(plan, **change)
        assert source_of(other, build_staged(), prepared).story.startswith("computed once for 30 ")


def test_views_of_training_without_augmentation_are_refused():
    with pytest.raises(RecipeError, match=r"`store.views` requires augmentation"):
        recipe(Augment()).validate()
