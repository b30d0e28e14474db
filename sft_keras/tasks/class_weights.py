"""Class weights of a stage, from `Stage.class_weights`. Does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from sft_keras.core.errors import RecipeError
from sft_keras.data.examples import DataInfo
from sft_keras.recipe.section import did_you_mean
from sft_keras.recipe.stage import Stage


def class_weights(stage: Stage, info: DataInfo) -> np.ndarray:
    """Return the weight of each class, float32 [num_classes].

    "balanced" is n / (num_classes * examples of the class), over the classes that occur in the
    training split; a class without training examples has weight 0. Without `class_weights` every
    weight is 1.

    Raises:
      RecipeError: If `Stage.class_weights` names a class that the data does not have.
    """
    if stage.class_weights is None:
        return np.ones(info.num_classes, np.float32)
    if stage.class_weights == "balanced":
        labels = np.repeat(np.arange(info.num_classes), info.counts["train"])
        present = np.unique(labels)  # scikit-learn accepts only classes that occur
        weights = np.zeros(info.num_classes, np.float32)
        weights[present] = compute_class_weight("balanced", classes=present, y=labels)
        return weights
    return _named_weights(stage, stage.class_weights, info)


def positive_weights(stage: Stage, info: DataInfo) -> np.ndarray:
    """Return the weight of positive examples per label, relative to negative ones.

    "balanced" is negatives / positives in the training split, so that both have the same total
    weight; 1 if the label has no positive or no negative training examples.

    Returns:
      float32 [num_classes].

    Raises:
      RecipeError: If `Stage.class_weights` names a class that the data does not have.
    """
    if stage.class_weights is None:
        return np.ones(info.num_classes, np.float32)
    if stage.class_weights == "balanced":
        positives = np.array(info.counts["train"], np.float32)
        negatives = info.sizes["train"] - positives
        is_one_sided = (positives == 0) | (negatives == 0)
        return np.where(is_one_sided, 1, negatives / np.maximum(positives, 1)).astype(np.float32)
    return _named_weights(stage, stage.class_weights, info)


def _named_weights(stage: Stage, weights: Mapping[str, float], info: DataInfo) -> np.ndarray:
    unknown = [name for name in weights if name not in info.class_names]
    if unknown:
        raise RecipeError(
            f"`stages.{stage.name}.class_weights` names classes that the data does not have. "
            f"Received: {', '.join(unknown)}.{did_you_mean(unknown[0], info.class_names)} "
            f"The data has: {', '.join(info.class_names)}."
        )
    return np.array([weights.get(name, 1.0) for name in info.class_names], np.float32)
