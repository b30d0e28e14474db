"""The text case of the staged benchmark: a BERT classifier in plain Keras, and staged.

Both sides read the same token tensors and start from the same head, without dropout, whose masks
they would draw differently; so the model is built here. Splitting it into blocks, caching, freezing
and training are the package's.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from staged_sides import result_of

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.backbones.blocks import BuiltBackbone, find_blocks
from sft_keras.core.timer import Timer
from sft_keras.data.batches import epoch_order, epoch_seed
from sft_keras.data.examples import DataInfo, Examples
from sft_keras.data.features import InMemoryFeatures
from sft_keras.data.fingerprint import DIGEST_SIZE, digest
from sft_keras.data.prepared import Prepared
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.models.staged import StagedModel
from sft_keras.runs.folder import RunFolder
from sft_keras.tasks import TextClassification
from sft_keras.training.experiment import Experiment
from sft_keras.training.trainer import train_stages

NUM_CLASSES = 2
SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextExperiment:
    """A BERT and film reviews.

    Attributes:
      bert: A folder that KerasHub loads as a BertBackbone.
      reviews: A folder with rt-polarity.pos and rt-polarity.neg, one text per line.
      sizes: Number of texts per split.
      sequence_length: Number of tokens to which every text is padded or truncated.
      stages: The head stage, then the top-layers stage.
      batch_size: Texts per step.
    """

    bert: str
    reviews: str
    sizes: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"train": 500, "validation": 100}
    )
    sequence_length: int = 64
    stages: tuple[Stage, ...] = (
        Stage(name="head", epochs=10, learning_rate=1e-3),
        Stage(name="top", epochs=3, learning_rate=1e-4, unfreeze=2),
    )
    batch_size: int = 32

    def tiny(self) -> TextExperiment:
        """Return the experiment on a few texts with two epochs per stage, for a trial run."""
        stages = tuple(dataclasses.replace(stage, epochs=2) for stage in self.stages)
        return dataclasses.replace(self, sizes={"train": 70, "validation": 70}, stages=stages)


def prepare_texts(experiment: TextExperiment, folder: Path) -> None:
    """Write the tokens of each split, the order of each epoch, and the initial head kernel."""
    import keras_hub

    tokenizer = keras_hub.models.BertTokenizer.from_preset(experiment.bert)
    preprocess = keras_hub.models.BertTextClassifierPreprocessor(
        tokenizer, sequence_length=experiment.sequence_length
    )
    texts, labels = [], []
    for label, name in enumerate(("neg", "pos")):
        lines = Path(experiment.reviews, f"rt-polarity.{name}").read_text(encoding="latin-1")
        texts += lines.splitlines()
        labels += [label] * (len(texts) - len(labels))
    chosen = np.random.default_rng(SEED).permutation(len(texts))
    start = 0
    for split, size in experiment.sizes.items():
        part = chosen[start : start + size]
        start += size
        tokens = preprocess(tf.constant([texts[index] for index in part]))
        np.savez(folder / f"{split}.npz", labels=np.array(labels)[part], **tokens)
    train = _prepared(folder, "train")
    for index, stage in enumerate(experiment.stages):
        seeds = [epoch_seed(SEED, index, epoch) for epoch in tf.range(stage.epochs, dtype=tf.int64)]
        orders = [epoch_order(train, experiment.batch_size, seed).numpy() for seed in seeds]
        np.save(folder / f"{stage.name}_order.npy", np.stack(orders))
    width = load_bert(experiment).output["pooled_output"].shape[-1]
    kernel = np.random.default_rng(SEED).normal(0.0, 0.05, (width, NUM_CLASSES))
    np.save(folder / "head_kernel.npy", kernel.astype(np.float32))


def load_bert(experiment: TextExperiment) -> keras.Model:
    """Return the backbone without dropout, whose masks differ between the two sides."""
    import keras_hub

    return keras_hub.models.BertBackbone.from_preset(experiment.bert, dropout=0.0)


def load_tokens(folder: Path, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the backbone's inputs, int32 [n, length] each, and the labels, int64 [n]."""
    with np.load(folder / f"{split}.npz") as arrays:
        names = ("token_ids", "segment_ids", "padding_mask")
        return {name: arrays[name].astype(np.int32) for name in names}, arrays["labels"]


def plain_texts(experiment: TextExperiment, folder: Path) -> dict[str, Any]:
    """Run a plain Keras script; return its seconds, in total and per part, and the histories."""
    clock = time.perf_counter
    start = clock()
    tokens, labels = load_tokens(folder, "train")
    tokens = {name: tf.constant(values) for name, values in tokens.items()}
    validation = tf.data.Dataset.from_tensor_slices(load_tokens(folder, "validation"))
    validation = validation.batch(experiment.batch_size).cache().prefetch(tf.data.AUTOTUNE)
    bert = load_bert(experiment)
    dense = keras.layers.Dense(NUM_CLASSES)
    model = keras.Model(bert.input, dense(bert.output["pooled_output"]))
    dense.kernel.assign(np.load(folder / "head_kernel.npy"))
    built = clock()
    histories, seconds, trainable = {}, {}, {}
    depth = sum(layer.name.startswith("transformer_layer_") for layer in bert.layers)
    for stage in experiment.stages:
        stage_start = clock()
        bert.trainable = True
        unfrozen = {f"transformer_layer_{depth - 1 - number}" for number in range(stage.unfreeze)}
        for layer in bert.layers:
            layer.trainable = layer.name in unfrozen or (
                bool(unfrozen) and layer.name == "pooled_dense"
            )
        model.compile(
            optimizer=keras.optimizers.Adam(stage.learning_rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        orders = tf.data.Dataset.from_tensor_slices(np.load(folder / f"{stage.name}_order.npy"))
        chosen = orders.flat_map(
            lambda order: tf.data.Dataset.from_tensor_slices(order).batch(experiment.batch_size)
        )
        batches = chosen.map(
            lambda index: (
                {name: tf.gather(values, index) for name, values in tokens.items()},
                tf.gather(labels, index),
            )
        )
        fitted = model.fit(
            batches.prefetch(tf.data.AUTOTUNE),
            epochs=stage.epochs,
            steps_per_epoch=-(-len(labels) // experiment.batch_size),
            validation_data=validation,
            verbose=0,
        )
        histories[stage.name] = fitted.history
        trainable[stage.name] = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        seconds[stage.name] = clock() - stage_start
    return {
        "seconds": clock() - start,
        "parts": {"data and build": built - start, **seconds},
        "histories": histories,
        "trainable_parameters": trainable,
    }


def ours_texts(experiment: TextExperiment, folder: Path) -> dict[str, Any]:
    """Run the stages on cached features; return the same keys as `plain_texts`."""
    recipe = Recipe(
        task=TextClassification(sequence_length=experiment.sequence_length, dropout=0.0),
        data=Data(source="csv:texts", batch_size=experiment.batch_size),
        backbone=Backbone(preset="hub:bert"),
        stages=experiment.stages,
        seed=SEED,
    )
    run = RunFolder.create("run", tempfile.mkdtemp(dir=folder), overwrite=False)
    timer = Timer()
    with configured_keras(recipe):
        with timer("data and build"):
            prepared = {name: _prepared(folder, name) for name in ("train", "validation")}
            sizes = {name: len(split.examples) for name, split in prepared.items()}
            counts = dict.fromkeys(sizes, (0,) * NUM_CLASSES)
            info = DataInfo("film reviews", ("negative", "positive"), sizes, counts, {})
            staged = _staged(experiment, folder)
        with timer("stages"):
            stages = train_stages(Experiment(recipe, staged, prepared, info, run))
    return result_of(stages, timer)


def _prepared(folder: Path, split: str) -> Prepared:
    tokens, labels = load_tokens(folder, split)
    joined = np.concatenate(list(tokens.values()), axis=1)
    digests = np.frombuffer(b"".join(map(digest, joined)), np.uint8).reshape(-1, DIGEST_SIZE)
    ids = tuple(f"{split}[{index}]" for index in range(len(labels)))

    def stream(seed: tf.Tensor | None) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(tokens)

    return Prepared(
        examples=Examples(split, ids, labels.astype(np.int32), stream),
        features=InMemoryFeatures.from_arrays(
            tokens, spec={name: tf.TensorSpec([None], tf.int32) for name in tokens}
        ),
        read=lambda raw: raw,
        digests=digests,
        lengths=tokens["padding_mask"].sum(axis=1, dtype=np.int64),
    )


def _staged(experiment: TextExperiment, folder: Path) -> StagedModel:
    bert = load_bert(experiment)
    model = keras.Model(bert.input, bert.output["pooled_output"], name="bert")
    blocks = find_blocks(model, re.compile(r"(transformer_layer_\d+)"))
    features = keras.Input(model.output.shape[1:])
    dense = keras.layers.Dense(NUM_CLASSES, name="logits")
    head = keras.Model(features, dense(features), name="head")
    dense.kernel.assign(np.load(folder / "head_kernel.npy"))
    return StagedModel(BuiltBackbone(model, blocks, ()), head, "softmax")
