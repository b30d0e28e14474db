"""Features of a frozen backbone, pooled to one vector per example."""

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
from sft_keras.tasks.base import build_task

_MASK = "padding_mask"
_BATCH_SIZE = 256


def backbone_features(
    staged: StagedModel,
    recipe: Recipe,
    prepared: Mapping[str, Prepared],
    info: DataInfo,
    reporter: Reporter,
) -> np.ndarray:
    """Return the pooled output of the whole backbone for all splits, concatenated.

    Features cached by earlier runs on the same data are reused, and runs reuse those that are
    computed here.

    Returns:
      float32 [examples of all splits, d].
    """
    # The boundary of a stage that trains only the head is the backbone's output.
    stage = Stage(name="check", epochs=1, learning_rate=1e-3)
    store = dataclasses.replace(recipe.store, views=None)
    task = recipe.task.without_augmentation()
    plain = dataclasses.replace(recipe, stages=(stage,), task=task, store=store)
    cache = FeatureCache(staged, plain, prepared, info, reporter=reporter, splits=SPLITS)
    try:
        source = cache.input_of(stage)
        # Without the comparison with training epochs, of which a check has none.
        origin = source.story.partition(", instead of")[0]
        reporter.line(f"features  backbone: {origin}")
        if source.from_boundary:
            return np.concatenate([_pooled_features(source.prepared[name]) for name in SPLITS])
        return _computed_features(staged, recipe, prepared, info)
    finally:
        cache.close()


def _pooled_features(prepared: Prepared) -> np.ndarray:
    """Return the pooled cached features of a split, float32 [n, d]."""
    features = prepared.require_features()
    count = len(prepared.examples)
    return np.concatenate(
        [
            _pool(features.take(tf.range(start, min(start + _BATCH_SIZE, count))))
            for start in range(0, count, _BATCH_SIZE)
        ]
    )


def _computed_features(
    staged: StagedModel, recipe: Recipe, prepared: Mapping[str, Prepared], info: DataInfo
) -> np.ndarray:
    """Return the pooled features of all splits, computed without the cache, float32 [n, d]."""
    prefix = staged.prefix_model([len(staged.backbone.blocks)])
    batches = build_task(recipe, info).batches
    datasets = [batches.evaluation(prepared[name]) for name in SPLITS]

    @tf.function(input_signature=[datasets[0].element_spec[0]], autograph=False)
    def vectors(inputs: Structure) -> tf.Tensor:
        outputs = prefix(inputs, training=False)
        return _pool(outputs[0] if isinstance(outputs, list) else outputs)

    return np.concatenate([vectors(batch[0]).numpy() for batches in datasets for batch in batches])


def _pool(boundary: Structure) -> Any:
    """Return the mean over positions, float32 [batch, d]; for texts, over unpadded tokens."""
    if isinstance(boundary, dict):
        mask, values = boundary.get(_MASK), boundary[BOUNDARY]
    else:
        mask, values = None, boundary
    values = tf.cast(values, tf.float32)
    if mask is not None and values.shape.rank == 3:
        weights = tf.cast(mask, tf.float32)[..., tf.newaxis]
        return tf.reduce_sum(values * weights, 1) / tf.maximum(tf.reduce_sum(weights, 1), 1.0)
    return tf.reduce_mean(values, axis=list(range(1, values.shape.rank - 1)))
