"""Training on stored boundary outputs is the same training, and it is refused where it is not."""

import dataclasses
import errno
import re
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from prepared_split import held_split

from sft_keras import Backbone, Data, Recipe, Stage, Store
from sft_keras.backbones.blocks import BuiltBackbone, find_blocks
from sft_keras.cache import boundary, sink
from sft_keras.cache.disk import DiskStore
from sft_keras.cache.feature_cache import FeatureCache
from sft_keras.cache.memory import MemoryStore
from sft_keras.cache.shard import ShardWriter
from sft_keras.core.errors import RecipeError
from sft_keras.core.reporter import SILENT
from sft_keras.data.batches import ordered_batches
from sft_keras.data.examples import DataInfo
from sft_keras.evaluation.inference import predict_batches
from sft_keras.models.heads import classification_head
from sft_keras.models.staged import StagedModel
from sft_keras.tasks import Augment, ImageClassification
from sft_keras.tasks.base import build_task
from sft_keras.training.prepare import prepare_stage

SIZE, CLASSES = 16, 3
layers = keras.layers


def plain(x):
    for number in (1, 2, 3):
        x = layers.Conv2D(6, 3, strides=2, padding="same", name=f"block{number}_conv")(x)
        x = layers.Activation("relu", name=f"block{number}_relu")(x)
    return x


def with_batch_norm_and_dropout(x):
    for number in (1, 2, 3):
        x = layers.Conv2D(6, 3, strides=2, padding="same", name=f"block{number}_conv")(x)
        x = layers.BatchNormalization(name=f"block{number}_norm")(x)
        x = layers.Dropout(0.2, name=f"block{number}_dropout")(x)
    return x


def residual(x):
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="stem")(x)
    for number in (1, 2, 3):
        y = layers.Conv2D(6, 3, padding="same", activation="relu", name=f"block{number}_conv")(x)
        x = layers.Add(name=f"block{number}_add")([x, y])
    return x


def transformer(x):
    x = layers.Conv2D(8, 4, strides=4, name="patches")(x)
    x = layers.Reshape((16, 8), name="tokens")(x)
    for number in (1, 2):
        y = layers.LayerNormalization(name=f"block{number}_norm")(x)
        y = layers.MultiHeadAttention(2, 4, dropout=0.1, name=f"block{number}_attention")(y, y)
        x = layers.Add(name=f"block{number}_add")([x, y])
    return layers.Reshape((4, 4, 8), name="block2_map")(x)


def built(network) -> StagedModel:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(inputs, network(inputs), name="network")
    backbone = BuiltBackbone(
        model, find_blocks(model, re.compile(r"(block\d)_")), (layers.Rescaling(1 / 64, -2.0),)
    )
    head = classification_head(
        model.output_shape[1:], num_classes=CLASSES, pooling="average", hidden=(), dropout=0.2
    )
    return StagedModel(backbone, head, "softmax")


@pytest.fixture(scope="module")
def data():
    """Prepared splits of noise, their facts, and a recipe without augmentation."""
    random = np.random.default_rng(0)
    sizes = {"train": 21, "validation": 10, "test": 5}
    prepared = {}
    for name, size in sizes.items():
        pixels = random.integers(0, 256, (size, SIZE, SIZE, 3)).astype(np.uint8)
        prepared[name] = held_split(pixels, np.arange(size) % CLASSES, name)
    counts = {name: (size // 3,) * 3 for name, size in sizes.items()}
    info = DataInfo("noise", ("a", "b", "c"), sizes, counts, {})
    stages = (
        Stage(name="head", epochs=1, learning_rate=0.05, optimizer="sgd"),
        Stage(name="top", epochs=2, learning_rate=0.05, optimizer="sgd", unfreeze=1),
    )
    recipe = Recipe(
        task=ImageClassification(),
        data=Data(source="digits", batch_size=8),
        backbone=Backbone(preset="keras:vgg16"),
        stages=stages,
    )
    return prepared, info, recipe


def store_for(staged, noise, memory=None, **changes):
    prepared, info, recipe = noise
    recipe = dataclasses.replace(recipe, **changes)
    store = FeatureCache(staged, recipe, prepared, info, reporter=SILENT, memory=memory)
    return store, recipe


def losses_of(network, data, cache, **fields):
    """The loss of every step of both stages, and the model's answers after each."""
    staged = built(network)
    info = data[1]
    store, recipe = store_for(staged, data, cache=cache, store=Store(**fields))
    task, losses, predicted = build_task(recipe, info), [], []
    for stage in recipe.stages:
        source = store.input_of(stage)
        assert source.from_boundary == (cache != "off")
        model = prepare_stage(
            staged, stage, 6, task.objective.loss(stage), [], source.from_boundary
        )
        batches = task.batches.training(source.prepared["train"], stage)
        losses += [model.train_on_batch(*batch) for batch in batches.take(3 * stage.epochs)]
        validation = task.batches.evaluation(source.prepared["validation"])
        model = staged.inference_model(stage.unfreeze, source.from_boundary)
        predicted.append(predict_batches(model, validation))
        store.drop_after(stage)
    assert not store.held
    whole = task.batches.evaluation(data[0]["validation"])
    return losses, [*predicted, predict_batches(staged.model, whole)]


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(plain, marks=pytest.mark.slow),
        with_batch_norm_and_dropout,
        pytest.param(residual, marks=pytest.mark.slow),
        pytest.param(transformer, marks=pytest.mark.slow),
    ],
)
def test_stored_and_recomputed_prefixes_train_alike_step_by_step(network, data):
    losses, predicted = losses_of(network, data, "off")
    stored_losses, stored_predicted = losses_of(network, data, "memory")
    assert len(set(losses)) == len(losses) == 9
    np.testing.assert_allclose(stored_losses, losses, rtol=1e-5)
    np.testing.assert_allclose(stored_predicted, predicted, atol=1e-5)
    # the last two: what the top stage validated, and what the whole model answers
    np.testing.assert_allclose(stored_predicted[2], stored_predicted[1], atol=1e-6)


def test_rows_on_disk_train_alike_step_by_step_and_are_found_again(data, tmp_path):
    folder = str(tmp_path)
    for story in ("computed once", "found on disk, "):
        store, recipe = store_for(built(plain), data, cache="auto", store=Store(folder=folder))
        if story == "computed once":
            store, _ = store_for(built(plain), data, cache="disk", store=Store(folder=folder))
        for stage in recipe.stages:
            assert store.input_of(stage).story.startswith(story)
    losses, predicted = losses_of(plain, data, "memory")
    stored_losses, stored_predicted = losses_of(plain, data, "disk", folder=folder)
    assert stored_losses == losses
    np.testing.assert_array_equal(stored_predicted, predicted)


@pytest.mark.parametrize(
    ("cache", "fields", "largest"),
    [
        ("memory", {"dtype": "float16"}, 2e-3),
        pytest.param("disk", {"dtype": "bfloat16"}, 2e-2, marks=pytest.mark.slow),
        pytest.param("memory", {"precision": "bfloat16"}, 4e-2, marks=pytest.mark.slow),
        pytest.param("memory", {"dtype": "bfloat16"}, 2e-2, marks=pytest.mark.slow),
        pytest.param("disk", {"dtype": "float16"}, 2e-3, marks=pytest.mark.slow),
        pytest.param("disk", {"precision": "bfloat16"}, 4e-2, marks=pytest.mark.slow),
    ],
)
def test_stored_in_half_precision_the_losses_move_little_and_take_half_the_room(
    data, tmp_path, cache, fields, largest
):
    losses, _ = losses_of(plain, data, "memory")
    rounded, _ = losses_of(plain, data, cache, folder=str(tmp_path), **fields)
    assert rounded != losses
    np.testing.assert_allclose(rounded, losses, rtol=largest)
    store, recipe = store_for(built(plain), data, cache=cache, store=Store(**fields))
    features = store.input_of(recipe.stages[0]).prepared["train"].features
    half = tf.float16 if fields.get("dtype") == "float16" else tf.bfloat16
    (stored,) = features._stored if cache == "disk" else [features.tensors]
    assert stored.dtype == half
    assert features.take(tf.constant([0], tf.int64)).dtype == tf.float32


def test_computing_in_bfloat16_leaves_the_layers_as_they_were(data):
    staged = built(with_batch_norm_and_dropout)
    store, recipe = store_for(staged, data, store=Store(precision="bfloat16"))
    store.input_of(recipe.stages[0])
    assert {layer.dtype_policy.name for layer in staged.backbone.model.layers} == {"float32"}
    assert staged.stage_model(0).output.dtype == "float32"


def test_one_pass_stores_the_boundaries_of_all_stages_ahead(data):
    staged = built(residual)
    store, recipe = store_for(staged, data)
    first = store.input_of(recipe.stages[0])
    assert first.story.startswith("computed once for 31 examples in ")
    assert ", instead of in each of 3 epochs; " in first.story
    assert set(store.held) == {3, 4}
    store.drop_after(recipe.stages[0])
    assert set(store.held) == {3}
    second = store.input_of(recipe.stages[1])
    assert (second.story, second.frozen_pass) == (first.story, first.frozen_pass)
    assert first.frozen_pass["epoch_seconds"] == first.frozen_pass["seconds"]  # no views


def test_a_boundary_above_what_a_stage_trains_is_computed_anew_afterwards(data):
    staged = built(residual)
    freed = dataclasses.replace(data[2].stages[1], name="freed", unfreeze=2)
    again = dataclasses.replace(data[2].stages[0], name="again")
    store, _ = store_for(staged, data, stages=(freed, again))
    store.input_of(freed)
    assert set(store.held) == {2}
    weights = staged.backbone.blocks[3].layers[0].kernel
    weights.assign(weights + 1.0)  # as the stage would
    store.drop_after(freed)
    (batch,) = ordered_batches(store.input_of(again).prepared["train"], 32)
    pixels = tf.cast(data[0]["train"].features.tensors, tf.float32)
    expected = staged.backbone.model(staged.backbone.preprocess[0](pixels), training=False)
    np.testing.assert_allclose(batch["input"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "stage", "reason"),
    [
        ({"cache": "off"}, {}, "cache='off'"),
        ({}, {"unfreeze": "all"}, "nothing is frozen"),
        ({"task": ImageClassification(augment=Augment(flip=True))}, {}, "augmentation"),
        ({"data": Data(source="digits", memory_share=0.0)}, {}, "of the free memory (0 MB)"),
        ({"cache": "disk"}, {}, "50% of the free disk space at "),
    ],
)
def test_where_it_cannot_be_stored_the_story_says_why(data, monkeypatch, changes, stage, reason):
    monkeypatch.setattr(DiskStore, "free", lambda self: 0)
    stage = dataclasses.replace(data[2].stages[0], **stage)
    store, _ = store_for(built(plain), data, stages=(stage,), **changes)
    source = store.input_of(stage)
    assert not source.from_boundary
    assert source.prepared is data[0]
    assert source.story.startswith("computed in every epoch: ")
    assert reason in source.story


def test_a_row_is_the_same_bits_in_any_company(data):
    few = {name: split.subset(np.arange(3)) for name, split in data[0].items()}
    rows = []
    for prepared in (data[0], few):
        store, recipe = store_for(built(residual), (prepared, *data[1:]))
        features = store.input_of(recipe.stages[0]).prepared["train"].features
        rows.append(features.take(tf.range(3, dtype=tf.int64)).numpy())
    np.testing.assert_array_equal(*rows)


def test_what_another_run_in_the_process_has_computed_is_not_computed_again(data):
    memory = MemoryStore()
    staged = built(plain)
    store, recipe = store_for(staged, data, memory=memory)
    assert store.input_of(recipe.stages[0]).story.startswith("computed once for 31 examples")
    for stage in recipe.stages:
        store.drop_after(stage)
    # Other folds of the same examples, and ten more of another split.
    swapped = {"train": data[0]["validation"], "validation": data[0]["train"]}
    again, _ = store_for(staged, (swapped, *data[1:]), memory=memory)
    assert again.input_of(recipe.stages[1]).story == "read from memory"
    more = {"train": data[0]["train"], "validation": data[0]["test"]}
    third, _ = store_for(staged, (more, *data[1:]), memory=memory)
    assert third.input_of(recipe.stages[0]).story.startswith("computed once for 5 examples")
    weights = staged.backbone.blocks[0].layers[0].kernel
    weights.assign(weights * 1.5)
    changed, _ = store_for(staged, data, memory=memory)
    assert changed.input_of(recipe.stages[0]).story.startswith("computed once for 31 examples")


def test_a_disk_that_fails_leaves_an_uncached_run_that_says_why(data, monkeypatch, tmp_path):
    def full(self, names, arrays):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ShardWriter, "append", full)
    store, recipe = store_for(built(plain), data, cache="disk", store=Store(folder=str(tmp_path)))
    source = store.input_of(recipe.stages[0])
    assert not source.from_boundary
    assert source.story == f"computed in every epoch: the disk is full ({tmp_path})"
    assert not list(tmp_path.rglob("*.*"))


def test_a_folder_that_cannot_be_made_leaves_an_uncached_run_that_says_why(data, tmp_path):
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "cache")
    store, recipe = store_for(built(plain), data, cache="disk", store=Store(folder=folder))
    source = store.input_of(recipe.stages[0])
    assert not source.from_boundary
    assert "file/cache cannot be written (Not a directory)" in source.story


def test_a_slow_disk_is_given_up_where_the_recipe_leaves_the_choice(data, monkeypatch, tmp_path):
    monkeypatch.setattr(sink, "_JUDGED_AFTER", 1)
    monkeypatch.setattr(ShardWriter, "append", lambda self, names, arrays: time.sleep(0.5))
    fields = {"data": Data(source="digits", batch_size=8, memory_share=0.0)}
    store, recipe = store_for(
        built(plain), data, store=Store(folder=str(tmp_path), batch_size=4), **fields
    )
    stage = recipe.stages[1]  # one boundary, so that computing is quick
    assert "the disk is slower than recomputing" in store.input_of(stage).story


def test_rows_that_are_not_what_the_network_gives_are_not_used(data, monkeypatch, tmp_path):
    # As if a layer's code had been changed, which no key can see.
    where = {"cache": "disk", "store": Store(folder=str(tmp_path))}
    monkeypatch.setattr(boundary, "collection_key", lambda *arguments: "0" * 64)
    stage = data[2].stages[1]
    store_for(built(plain), data, stages=(stage,), **where)[0].input_of(stage)
    store, _ = store_for(built(plain), data, stages=(stage,), **where)
    assert store.input_of(stage).story.startswith("found on disk")
    other = built(plain)
    other.backbone.blocks[0].layers[0].bias.assign(np.full(6, 3.0))
    store, _ = store_for(other, data, stages=(stage,), **where)
    assert store.input_of(stage).story.startswith("computed once")
    store, _ = store_for(other, data, stages=(stage,), **where)
    assert store.input_of(stage).story.startswith("found on disk")


def test_insisting_on_memory_that_is_not_there_is_an_error(data):
    stage = data[2].stages[0]
    changes = {"cache": "memory", "data": Data(source="digits", memory_share=0.0)}
    store, _ = store_for(built(plain), data, **changes)
    with pytest.raises(RecipeError, match=r"`cache` is 'memory', but for stage 'head'"):
        store.input_of(stage)
