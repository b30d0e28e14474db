"""Training on stored boundary outputs is the same training, and it is refused where it is not."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.backbones.blocks import BuiltBackbone, find_blocks
from sft_keras.data.examples import DataInfo, Examples
from sft_keras.data.store import Prepared
from sft_keras.errors import RecipeError
from sft_keras.evaluate import answers
from sft_keras.frozen_prefix import FrozenPrefixStore
from sft_keras.heads import classification_head
from sft_keras.staged_model import StagedModel
from sft_keras.stages import prepare_stage
from sft_keras.tasks import Augment, ImageClassification

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
        labels = np.arange(size, dtype=np.int32) % CLASSES
        pixels = tf.constant(random.integers(0, 256, (size, SIZE, SIZE, 3)), tf.uint8)
        examples = Examples(name, tuple(map(str, range(size))), labels, lambda seed: None)
        prepared[name] = Prepared(examples, pixels, (SIZE, SIZE), "stretch")
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


def store_for(staged, noise, **changes):
    prepared, info, recipe = noise
    recipe = dataclasses.replace(recipe, **changes)
    return FrozenPrefixStore(staged, recipe, prepared, info.sizes, lambda done, total: None), recipe


def losses_of(network, data, cache):
    """The loss of every step of both stages, and the model's answers after each."""
    staged = built(network)
    info = data[1]
    store, recipe = store_for(staged, data, cache=cache)
    task, losses, predicted = recipe.task, [], []
    for stage in recipe.stages:
        source = store.input_of(stage)
        assert source.from_boundary == (cache != "off")
        model = prepare_stage(staged, stage, 6, task.loss(stage), [], source.from_boundary)
        batches = task.training_batches(source.prepared["train"], recipe, stage, info)
        losses += [model.train_on_batch(*batch) for batch in batches.take(3 * stage.epochs)]
        validation = task.evaluation_batches(source.prepared["validation"], recipe, info)
        model = staged.answering(stage.unfreeze, source.from_boundary)
        predicted.append(answers(model, validation))
        store.drop_after(stage)
    assert store.held == {}
    whole = task.evaluation_batches(data[0]["validation"], recipe, info)
    return losses, [*predicted, answers(staged.model, whole)]


@pytest.mark.parametrize("network", [plain, with_batch_norm_and_dropout, residual, transformer])
def test_stored_and_recomputed_prefixes_train_alike_step_by_step(network, data):
    losses, predicted = losses_of(network, data, "off")
    stored_losses, stored_predicted = losses_of(network, data, "memory")
    assert len(set(losses)) == len(losses) == 9
    np.testing.assert_allclose(stored_losses, losses, rtol=1e-5)
    np.testing.assert_allclose(stored_predicted, predicted, atol=1e-5)
    # the last two: what the top stage validated, and what the whole model answers
    np.testing.assert_allclose(stored_predicted[2], stored_predicted[1], atol=1e-6)


def test_one_pass_stores_the_boundaries_of_all_stages_ahead(data):
    staged = built(residual)
    store, recipe = store_for(staged, data)
    first = store.input_of(recipe.stages[0])
    assert first.story.startswith("computed once for 31 examples")
    assert set(store.held) == {3, 4}
    store.drop_after(recipe.stages[0])
    assert set(store.held) == {3}
    assert store.input_of(recipe.stages[1]).story == "read from memory"


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
    features = store.input_of(again).prepared["train"].features
    pixels = tf.cast(data[0]["train"].features, tf.float32)
    expected = staged.backbone.model(staged.backbone.preprocess[0](pixels), training=False)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "stage", "reason"),
    [
        ({"cache": "off"}, {}, "cache='off'"),
        ({}, {"unfreeze": "all"}, "nothing is frozen"),
        ({"task": ImageClassification(augment=Augment(flip=True))}, {}, "augmentation"),
        ({"data": Data(source="digits", memory_share=0.0)}, {}, "0 MB of memory"),
    ],
)
def test_where_it_cannot_be_stored_the_story_says_why(data, changes, stage, reason):
    stage = dataclasses.replace(data[2].stages[0], **stage)
    store, _ = store_for(built(plain), data, stages=(stage,), **changes)
    source = store.input_of(stage)
    assert not source.from_boundary
    assert source.prepared is data[0]
    assert source.story.startswith("computed in every epoch: ")
    assert reason in source.story


def test_insisting_on_memory_that_is_not_there_is_an_error(data):
    stage = data[2].stages[0]
    changes = {"cache": "memory", "data": Data(source="digits", memory_share=0.0)}
    store, _ = store_for(built(plain), data, **changes)
    with pytest.raises(RecipeError, match=r"`cache` is 'memory', but for stage 'head'"):
        store.input_of(stage)
