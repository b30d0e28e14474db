"""The working half of counting: source, head, Poisson loss, metric and signature."""

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from sft_counting.config import CountDots
from sft_keras.backbones.build import build_backbone
from sft_keras.data.features import InMemoryFeatures
from sft_keras.data.listing import Listing
from sft_keras.data.splits import build_splits
from sft_keras.data.streams import random_access_part
from sft_keras.evaluation.bootstrap import bootstrap_intervals
from sft_keras.models.heads import classification_head
from sft_keras.models.staged import StagedModel
from sft_keras.tasks.base import Task
from sft_keras.tasks.examples import MAX_MISTAKES, ReportExamples
from sft_keras.tasks.image_preprocessor import ImagePreprocessor
from sft_keras.tasks.image_signatures import ENCODED, image_samples
from sft_keras.tasks.labelled_batches import LabelledBatches, LabelledObjective
from sft_keras.tasks.parts import Evaluator, Exporter
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.vision.decode import decode_image, resize_image

SIDE, MOST = 32, 8


def dot_images(count, seed):
    """Return images with up to 8 white dots, uint8 [count, 32, 32, 3], and their numbers."""
    random = np.random.default_rng(seed)
    numbers = random.integers(0, MOST + 1, count)
    images = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    for image, number in zip(images, numbers):
        cells = random.permutation(64)[:number]
        for row, column in zip(cells // 8 * 4, cells % 8 * 4):
            image[row : row + 2, column : column + 2] = 255
    return images, numbers


class CountDotsTask(Task[CountDots]):
    def open_data(self, seed):
        images, numbers = dot_images(int(self.recipe.data.source.partition(":")[2]), seed)
        pixels = tf.constant(images)
        strata = (numbers > MOST // 2).astype(np.int64)
        ids = [f"dots[{index}]:{number}" for index, number in enumerate(numbers)]
        part = random_access_part(ids, strata, lambda position: pixels[position])
        part = dataclasses.replace(part, occurrences=np.zeros((len(ids), 0), np.int64))
        return build_splits(Listing((), {"train": part}), self.recipe.data, seed)

    def build_backbone(self):
        return build_backbone(self.recipe.backbone)

    def build_model(self, backbone):
        shape, dropout = backbone.model.output_shape[1:], self.config.dropout
        head = classification_head(
            shape, num_classes=1, pooling="average", hidden=(), dropout=dropout
        )
        return StagedModel(backbone=backbone, head=head, activation="exponential")

    @functools.cached_property
    def preprocessor(self):
        return CountPreprocessor(self.recipe, "stretch")

    @functools.cached_property
    def objective(self):
        return PoissonObjective()

    @functools.cached_property
    def batches(self):
        return LabelledBatches(self.recipe, self.info, self.objective)

    @functools.cached_property
    def evaluator(self):
        return CountEvaluator(self.recipe.seed)

    @functools.cached_property
    def exporter(self):
        return CountExporter()


class CountPreprocessor(ImagePreprocessor):
    def preprocess(self, splits, progress):
        return {
            name: dataclasses.replace(
                split, targets=InMemoryFeatures.from_arrays(counts_of(split.examples))
            )
            for name, split in super().preprocess(splits, progress).items()
        }


class PoissonObjective(LabelledObjective):
    def loss(self, stage):
        return PoissonLoss()

    def metrics(self):
        return [keras.metrics.MeanMetricWrapper(count_error, name="count_error")]

    def training_weights(self, stage):
        return lambda counts: tf.ones(tf.shape(counts)[:1])


def count_error(counts, logits):
    return keras.ops.mean(keras.ops.abs(keras.ops.exp(logits) - counts), axis=-1)


class PoissonLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.exp(y_pred) - y_true * y_pred, axis=-1)


class CountEvaluator(Evaluator):
    def __init__(self, seed):
        self.seed = seed

    def evaluate(self, outputs, prepared, temperature=None):
        errors = np.abs(outputs - counts_of(prepared.examples))[:, 0].astype(float)
        bounds = bootstrap_intervals(
            lambda rows: {"count_error": errors[rows].mean()}, len(errors), self.seed
        )
        error = {"value": errors.mean(), **bounds["count_error"]}
        return {"examples": len(errors), "count_error": error}

    def summary(self, metrics):
        return f"{metrics['count_error']['value']:.2f} dots off, {metrics['examples']} images"

    def report_examples(self, outputs, prepared):
        counts = counts_of(prepared.examples)[:, 0]
        worst = np.argsort(-np.abs(outputs[:, 0] - counts), kind="stable")[:MAX_MISTAKES]
        return ReportExamples(
            [
                {
                    "id": prepared.examples.ids[row],
                    "true": f"{counts[row]:.0f} dots",
                    "predicted": f"{outputs[row, 0]:.1f} dots",
                }
                for row in worst.tolist()
            ]
        )


class CountExporter(Exporter):
    def signatures(self, model):
        size = model.input_shape[1:3]

        def count(image_bytes):
            pixels = tf.map_fn(
                lambda image: resize_image(decode_image(image), size, "stretch"),
                image_bytes,
                fn_output_signature=tf.TensorSpec((*size, 3), tf.uint8),
            )
            return {"count": model(tf.cast(pixels, tf.float32), training=False)[:, 0]}

        specs = [tf.TensorSpec([None], tf.string, name="image_bytes")]
        return ServingSignatures({ENCODED: (count, specs)}, compared="count", unit=MOST)

    def samples(self, outputs, prepared, limit):
        samples = image_samples(prepared, limit)
        return {ENCODED: samples[ENCODED]}, outputs[:limit, 0]


def counts_of(examples):
    """Return the number of dots of each example, float32 [n, 1]; the ids end in it."""
    return np.array([[float(name.rpartition(":")[2])] for name in examples.ids], np.float32)
