"""Augmentation of training batches with Keras' own layers, as a pure function of a seed.

Keras' layers draw from a variable that each call moves on, so what an image gets depends on how
many batches came before. Here every draw is derived from (recipe seed, stage, epoch, step): the
same step of the same run is augmented alike, in any process, from any point of the run on.
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
    """Hands out seeds derived from a base seed instead of from a variable's state."""

    base: tf.Tensor  # int64 [2], set for each step
    drawn: int

    def start(self, base: tf.Tensor) -> None:
        """Begins a step: the draws that follow are functions of `base` and their number."""
        self.base, self.drawn = base, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Returns the next seed, int64 [2]."""
        self.drawn += 1
        return tf.random.experimental.stateless_fold_in(self.base, self.drawn)


def build_augmentation(
    augment: Augment,
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]] | None:
    """Returns a function (images, labels, seed) -> (images, labels), or None if nothing is on.

    Images are [batch, height, width, 3] in 0..255, labels float32 [batch, num_classes], seed an
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
            batch = _applied(layer, batch)
        shape = images.shape
        return tf.ensure_shape(
            tf.clip_by_value(batch["images"], 0.0, 255.0), shape
        ), tf.ensure_shape(batch["labels"], labels.shape)

    return apply


def _applied(layer: keras.Layer, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    if isinstance(layer, keras.layers.MixUp | keras.layers.CutMix):
        return layer(dict(batch), training=True)
    return {**batch, "images": layer(batch["images"], training=True)}


def _layers(augment: Augment) -> list[Any]:
    layers = keras.layers
    built: list[Any] = []

    def add(kind: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        # In float32 under any policy: half precision cannot tell neighbouring shades apart.
        built.append(kind(*arguments, dtype="float32", **named))

    if augment.flip:
        add(layers.RandomFlip, "horizontal")
    if augment.flip == "both":
        # Keras' mode for both flips an image both ways or not at all.
        add(layers.RandomFlip, "vertical")
    if augment.crop:
        # Keras' RandomCrop cuts a whole batch alike; zooming in and shifting cuts image by image.
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
