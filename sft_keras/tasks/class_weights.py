"""How much the classes count in training, as `Stage.class_weights` has it. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from sft_keras.core.errors import RecipeError
from sft_keras.data.examples import DataInfo
from sft_keras.recipe.section import did_you_mean
from sft_keras.recipe.stage import Stage


def class_weights(stage: Stage, info: DataInfo) -> np.ndarray:
    """Returns the weight of each class in a stage, float32 [num_classes].

    Raises:
      RecipeError: If `Stage.class_weights` names a class that the data does not have.
    """
    if stage.class_weights is None:
        return np.ones(info.num_classes, np.float32)
    if stage.class_weights == "balanced":
        labels = np.repeat(np.arange(info.num_classes), info.counts["train"])
        present = np.unique(labels)  # a class without examples needs no weight, and has none
        weights = np.zeros(info.num_classes, np.float32)
        weights[present] = compute_class_weight("balanced", classes=present, y=labels)
        return weights
    return _named_weights(stage, stage.class_weights, info)


def positive_weights(stage: Stage, info: DataInfo) -> np.ndarray:
    """Returns how much more an example with a label counts for it than one without.

    "balanced" is the number of training examples without the label by that of those with it, so
    that both count the same together; 1 where either are lacking.

    Returns:
      float32 [num_classes].

    Raises:
      RecipeError: If `Stage.class_weights` names a class that the data does not have.
    """
    if stage.class_weights is None:
        return np.ones(info.num_classes, np.float32)
    if stage.class_weights == "balanced":
        having = np.array(info.counts["train"], np.float32)
        lacking = info.sizes["train"] - having
        is_either_none = (having == 0) | (lacking == 0)
        return np.where(is_either_none, 1, lacking / np.maximum(having, 1)).astype(np.float32)
    return _named_weights(stage, stage.class_weights, info)


def _named_weights(stage: Stage, given: Mapping[str, float], info: DataInfo) -> np.ndarray:
    unknown = [name for name in given if name not in info.class_names]
    if unknown:
        raise RecipeError(
            f"`stages.{stage.name}.class_weights` names classes that the data does not have. "
            f"Received: {', '.join(unknown)}.{did_you_mean(unknown[0], info.class_names)} "
            f"The data has: {', '.join(info.class_names)}."
        )
    return np.array([given.get(name, 1.0) for name in info.class_names], np.float32)
