"""Augmentation of training batches with Keras layers, as a pure function of a seed.

Keras layers draw from the state of a variable that every call advances, so the augmentation of an
image depends on the number of batches before it. Here every draw is derived from (recipe seed,
stage, epoch, step): the same step of the same run is augmented identically, in any process and
after any resume.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from sft_keras.backbones.layers import iter_layers
from sft_keras.vision.augment_config import Augment

_VALUE_RANGE = (0, 255)


class StepSeed(keras.random.SeedGenerator):
    """Generate seeds from a base seed instead of a variable's state."""

    base: tf.Tensor  # int64 [2], set for each step
    draws: int

    def start(self, base: tf.Tensor) -> None:
        """Start a step: the following draws are functions of `base` and their number."""
        self.base, self.draws = base, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Return the next seed, int64 [2]."""
        self.draws += 1
        return tf.random.experimental.stateless_fold_in(self.base, self.draws)


def build_augmentation(
    augment: Augment,
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]] | None:
    """Return a function (images, labels, seed) -> (images, labels), or None if all is off.

    Images are [batch, height, width, 3] in 0..255, labels float32 [batch, num_classes], the seed
    int64 [2]; the results are float32 of the same shapes and ranges.
    """
    layers = _layers(augment)
    if not layers:
        return None
    step_seed = StepSeed(seed=0)
    for layer in iter_layers(*layers):
        if hasattr(layer, "generator"):
            layer.generator = step_seed

    def apply(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        step_seed.start(seed)
        batch = {"images": tf.cast(images, tf.float32), "labels": labels}
        for layer in layers:
            batch = _apply_layer(layer, batch)
        augmented = tf.clip_by_value(batch["images"], 0.0, 255.0)
        return (
            tf.ensure_shape(augmented, images.shape),
            tf.ensure_shape(batch["labels"], labels.shape),
        )

    return apply


def _apply_layer(layer: keras.Layer, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    if isinstance(layer, keras.layers.MixUp | keras.layers.CutMix):
        return layer(dict(batch), training=True)
    return {**batch, "images": layer(batch["images"], training=True)}


def _layers(augment: Augment) -> list[Any]:
    layers = keras.layers
    built: list[Any] = []

    def add(layer_class: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        # In float32 under any policy: half precision cannot distinguish adjacent pixel values.
        built.append(layer_class(*args, dtype="float32", **kwargs))

    if augment.flip:
        add(layers.RandomFlip, "horizontal")
    if augment.flip == "both":
        # Keras' mode "horizontal_and_vertical" flips an image both ways or not at all.
        add(layers.RandomFlip, "vertical")
    if augment.crop:
        # Keras' RandomCrop crops a whole batch identically; zoom and translation crop per image.
        add(layers.RandomZoom, (-augment.crop, 0.0), fill_mode="reflect")
        half = augment.crop / 2
        add(layers.RandomTranslation, half, half, fill_mode="reflect")
    if augment.rotation:
        add(layers.RandomRotation, augment.rotation, fill_mode="reflect")
    if augment.zoom:
        add(layers.RandomZoom, augment.zoom, fill_mode="reflect")
    if augment.translation:
        shift = augment.translation
        add(layers.RandomTranslation, shift, shift, fill_mode="reflect")
    if augment.brightness:
        add(layers.RandomBrightness, augment.brightness, value_range=_VALUE_RANGE)
    if augment.contrast:
        add(layers.RandomContrast, augment.contrast, value_range=_VALUE_RANGE)
    if augment.rand_augment:
        add(layers.RandAugment, value_range=_VALUE_RANGE, factor=augment.rand_augment)
    if augment.erasing:
        share = (augment.erasing, augment.erasing)
        add(layers.RandomErasing, factor=share, value_range=_VALUE_RANGE)
    if augment.mixup:
        add(layers.MixUp, alpha=augment.mixup)
    if augment.cutmix:
        add(layers.CutMix, factor=augment.cutmix)
    return built
