"""Texts of like length share a batch, cut to the longest; they train like padded ones."""

import dataclasses
import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from sft_keras import Backbone, Data, Recipe, Stage, Store
from sft_keras.backbones.blocks import BuiltBackbone, find_blocks
from sft_keras.cache.feature_cache import FeatureCache
from sft_keras.cache.memory import MemoryStore
from sft_keras.core.reporter import SILENT
from sft_keras.data import bucketing as lengths
from sft_keras.data.batches import ordered_batches, training_batches
from sft_keras.data.examples import DataInfo, Examples
from sft_keras.data.features import InMemoryFeatures
from sft_keras.data.fingerprint import DIGEST_SIZE, digest
from sft_keras.data.prepared import Prepared
from sft_keras.evaluation.inference import predict_batches
from sft_keras.models.staged import StagedModel
from sft_keras.tasks import ImageClassification
from sft_keras.tasks.base import build_task
from sft_keras.training.prepare import prepare_stage

PLACES, WORDS, CLASSES, BATCH = 64, 20, 3, 8
layers = keras.layers


def built() -> StagedModel:
    """A transformer of two blocks that reads its padding mask in each, and a head on token 0."""
    keras.utils.set_random_seed(0)
    tokens = keras.Input((None,), dtype="int32", name="token_ids")
    mask = keras.Input((None,), dtype="int32", name="padding_mask")
    x = layers.Embedding(WORDS, 8, name="embeddings")(tokens)
    for number in (1, 2):
        attention = layers.MultiHeadAttention(2, 4, name=f"block{number}_attention")
        y = attention(x, x, attention_mask=mask[:, None, :])
        x = layers.Add(name=f"block{number}_add")([x, y])
    model = keras.Model({"token_ids": tokens, "padding_mask": mask}, x[:, 0, :], name="network")
    blocks = find_blocks(model, re.compile(r"(block\d)_"))
    features = keras.Input((8,))
    head = keras.Model(features, layers.Dense(CLASSES, name="logits")(features), name="head")
    return StagedModel(BuiltBackbone(model, blocks, ()), head, "softmax")


def texts(name: str, size: int, seed: int) -> Prepared:
    """Random tokens, more short texts than long ones, padded with zeros."""
    draw = np.random.default_rng(seed)
    length = np.minimum(PLACES, 3 + draw.geometric(0.08, size))
    mask = (np.arange(PLACES) < length[:, None]).astype(np.int32)
    tokens = draw.integers(1, WORDS, mask.shape).astype(np.int32) * mask
    arrays = {"token_ids": tokens, "padding_mask": mask}

    def stream(seed):
        raise AssertionError("what is held is not read again")

    labels = np.arange(size, dtype=np.int32) % CLASSES
    return Prepared(
        examples=Examples(name, tuple(f"{name}[{i}]" for i in range(size)), labels, stream),
        features=InMemoryFeatures.from_arrays(
            arrays, spec={each: tf.TensorSpec([None], tf.int32) for each in arrays}
        ),
        read=lambda raw: raw,
        digests=np.frombuffer(b"".join(map(digest, tokens)), np.uint8).reshape(-1, DIGEST_SIZE),
        lengths=length,
    )


def padded(prepared: Prepared) -> Prepared:
    """The same texts in the same batches, each padded to the longest there may be."""
    return dataclasses.replace(
        prepared,
        features=InMemoryFeatures(prepared.features.tensors),  # of rows that do not vary
    )


@pytest.fixture(scope="module")
def data():
    sizes = {"train": 45, "validation": 20}
    prepared = {name: texts(name, size, size) for name, size in sizes.items()}
    info = DataInfo("noise", ("a", "b", "c"), sizes, dict.fromkeys(sizes, (0, 0, 0)), {})
    recipe = Recipe(
        task=ImageClassification(dropout=0.0),
        data=Data(source="digits", batch_size=BATCH),
        backbone=Backbone(preset="hub:tiny"),
        stages=(
            Stage(name="head", epochs=1, learning_rate=0.05, optimizer="sgd"),
            Stage(name="top", epochs=2, learning_rate=0.05, optimizer="sgd", unfreeze=1),
        ),
    )
    return prepared, info, recipe


def losses_of(data, cache, folder=None):
    """The loss of every step of both stages, the answers, and the shapes that were trained on."""
    prepared, info, recipe = data
    recipe = dataclasses.replace(recipe, cache=cache, store=Store(folder=folder))
    staged = built()
    store = FeatureCache(staged, recipe, prepared, info, reporter=SILENT)
    losses, shapes = [], []
    for stage in recipe.stages:
        source = store.input_of(stage)
        assert source.from_boundary == (cache != "off")
        task = build_task(recipe, info)
        loss = task.objective.loss(stage)
        model = prepare_stage(staged, stage, 12, loss, [], source.from_boundary)
        batches = task.batches.training(source.prepared["train"], stage)
        for batch in batches.take(6 * stage.epochs):
            losses.append(model.train_on_batch(*batch))
            shapes.append({tuple(each.shape) for each in tf.nest.flatten(batch[0])})
        store.drop_after(stage)
    validation = build_task(recipe, info).batches.evaluation(prepared["validation"])
    return losses, predict_batches(staged.model, validation), shapes


@pytest.fixture(scope="module")
def whole(data):
    """Losses and answers on texts that are all padded to the longest there may be, not stored."""
    prepared = {name: padded(split) for name, split in data[0].items()}
    losses, predicted, shapes = losses_of((prepared, *data[1:]), "off")
    assert all((each, PLACES) in batch for batch in shapes for each, *_ in batch)
    assert len(set(losses)) == len(losses) == 18
    return losses, predicted


@pytest.mark.parametrize(
    "cache",
    [
        pytest.param("off", marks=pytest.mark.slow),
        "memory",
        pytest.param("disk", marks=pytest.mark.slow),
    ],
)
def test_cut_and_stored_texts_train_like_padded_ones_step_by_step(data, whole, cache, tmp_path):
    losses, predicted, shapes = losses_of(data, cache, str(tmp_path))
    np.testing.assert_allclose(losses, whole[0], rtol=1e-5)
    np.testing.assert_allclose(predicted, whole[1], atol=1e-5)
    places = {shape[1] for batch in shapes[6:] for shape in batch}  # of the top stage
    assert places == {16, 32, 48, 64}


def epochs_of(prepared, seed, count=2):
    batches = training_batches(prepared, BATCH, seed, stage_index=0, epochs=count)
    found = [[] for _ in range(count)]
    for batch in batches:
        found[int(batch["epoch"])].append(batch["index"].numpy())
    return found


def test_an_epoch_holds_every_text_once_in_batches_of_like_length(data):
    prepared = data[0]["train"]
    epochs = epochs_of(prepared, seed=1)
    for batches in epochs:
        assert [len(batch) for batch in batches] == [8, 8, 8, 8, 8, 5]
        assert sorted(np.concatenate(batches)) == list(range(45))
        ranges = sorted(
            (prepared.lengths[batch].min(), prepared.lengths[batch].max()) for batch in batches[:-1]
        )
        for (_, longest), (shortest, _) in itertools.pairwise(ranges):
            assert longest <= shortest
        firsts = [prepared.lengths[batch].min() for batch in batches[:-1]]
        assert firsts != sorted(firsts), "batches are to come in random order"
    assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[1]))
    again, other = epochs_of(prepared, seed=1), epochs_of(prepared, seed=2)
    np.testing.assert_array_equal(np.concatenate(again[1]), np.concatenate(epochs[1]))
    assert not np.array_equal(np.concatenate(other[0]), np.concatenate(epochs[0]))


def test_what_is_sorted_is_a_part_of_the_epoch_so_that_chance_decides_too(data, monkeypatch):
    prepared = data[0]["train"]
    monkeypatch.setattr(lengths, "_SORT_WINDOW", 2)
    (batches,) = epochs_of(prepared, seed=1, count=1)
    assert sorted(np.concatenate(batches)) == list(range(45))
    ranges = sorted((prepared.lengths[b].min(), prepared.lengths[b].max()) for b in batches[:-1])
    assert any(longest > shortest for (_, longest), (shortest, _) in itertools.pairwise(ranges))


def test_a_batch_is_cut_to_the_longest_of_its_texts(data):
    prepared = data[0]["train"].subset(np.flatnonzero(data[0]["train"].lengths <= 16))
    (batch,) = ordered_batches(prepared, 64)
    tokens = data[0]["train"].features.tensors["token_ids"].numpy()
    kept = tokens[data[0]["train"].lengths <= 16]
    np.testing.assert_array_equal(batch["input"]["token_ids"], kept[:, :16])
    assert not kept[:, 16:].any()


def test_a_text_gives_the_same_bits_in_any_company(data):
    prepared, info, recipe = data
    few = {name: split.subset(np.arange(5)) for name, split in prepared.items()}
    rows = []
    for splits in (prepared, few):
        store = FeatureCache(
            built(),
            recipe,
            splits,
            info,
            reporter=SILENT,
            memory=MemoryStore(),
        )
        features = store.input_of(recipe.stages[1]).prepared["train"].features
        rows.append(features.take(tf.range(5, dtype=tf.int64))["boundary"].numpy())
    np.testing.assert_array_equal(*rows)
    assert rows[0].shape == (5, PLACES, 8)
    for row, length in zip(rows[0], prepared["train"].lengths):
        assert not row[-(-length // 16) * 16 :].any()
