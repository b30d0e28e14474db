"""What a frozen backbone gives for each example, pooled to one vector."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.backbones.blocks import BOUNDARY
from sft_keras.cache.feature_cache import FeatureCache
from sft_keras.core.reporter import Reporter
from sft_keras.data.examples import SPLITS, DataInfo
from sft_keras.data.features import Structure
from sft_keras.data.prepared import Prepared
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage

_MASK = "padding_mask"
_AT_ONCE = 256


def frozen_features(
    staged: StagedModel,
    recipe: Recipe,
    prepared: Mapping[str, Prepared],
    info: DataInfo,
    reporter: Reporter,
) -> np.ndarray:
    """Returns the pooled output of the whole backbone for all splits, one after the other.

    What runs on the same data have stored is taken from there, and what is computed now is found by
    them.

    Returns:
      float32 [examples of all splits, d].
    """
    # A stage on the head alone starts from there, and plain inputs are wanted.
    stage = Stage(name="check", epochs=1, learning_rate=1e-3)
    store = dataclasses.replace(recipe.store, views=None)
    plain = dataclasses.replace(recipe, stages=(stage,), task=_unchanged(recipe.task), store=store)
    found = FeatureCache(staged, plain, prepared, info, reporter=reporter, splits=SPLITS)
    try:
        source = found.input_of(stage)
        reporter.line(f"features  of the frozen backbone: {source.story.partition(', and not')[0]}")
        if source.from_boundary:
            return np.concatenate([_pooled(source.prepared[name]) for name in SPLITS])
        return _computed(staged, recipe, prepared, info)
    finally:
        found.close()


def _unchanged(task: Any) -> Any:
    """Returns the task without augmentation."""
    if "augment" not in {field.name for field in dataclasses.fields(task)}:
        return task
    return dataclasses.replace(task, augment=type(task.augment)())


def _pooled(prepared: Prepared) -> np.ndarray:
    count = len(prepared.examples)
    parts = [
        _vectors(prepared.features.take(tf.range(start, min(start + _AT_ONCE, count))))
        for start in range(0, count, _AT_ONCE)
    ]
    return np.concatenate(parts)


def _computed(
    staged: StagedModel, recipe: Recipe, prepared: Mapping[str, Prepared], info: DataInfo
) -> np.ndarray:
    """Returns the same where nothing is stored."""
    prefix = staged.prefix_model([len(staged.backbone.blocks)])
    batches = [recipe.task.evaluation_batches(prepared[name], recipe, info) for name in SPLITS]

    @tf.function(input_signature=[batches[0].element_spec[0]], autograph=False)
    def vectors(inputs: Structure) -> tf.Tensor:
        outputs = prefix(inputs, training=False)
        return _vectors(outputs[0] if isinstance(outputs, list) else outputs)

    return np.concatenate([vectors(batch[0]).numpy() for each in batches for batch in each])


def _vectors(boundary: Structure) -> Any:
    """Returns a mean over places, float32 [batch, d]: of texts, over those that are no padding."""
    if isinstance(boundary, dict):
        mask, values = boundary.get(_MASK), boundary[BOUNDARY]
    else:
        mask, values = None, boundary
    values = tf.cast(values, tf.float32)
    if mask is not None and values.shape.rank == 3:
        weights = tf.cast(mask, tf.float32)[..., tf.newaxis]
        return tf.reduce_sum(values * weights, 1) / tf.maximum(tf.reduce_sum(weights, 1), 1.0)
    return tf.reduce_mean(values, axis=list(range(1, values.shape.rank - 1)))
