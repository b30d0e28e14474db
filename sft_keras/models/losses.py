"""The contract between a loss that weights the examples of a batch itself and the training step."""

from __future__ import annotations

import abc
from typing import Any

import keras


class SelfWeightedLoss(keras.losses.Loss, abc.ABC):
    """A loss whose mean over a batch is not taken over examples, e.g. over masked tokens.

    Several replicas or workers each compute a part of a batch. To add up their losses, the training
    step weights each part by its share of the weight of the whole batch. For an ordinary Keras loss
    that is the number of examples, or the sum of their sample weights; this one defines its own.
    """

    @abc.abstractmethod
    def total_weight(self, y_true: Any, counts: Any = None) -> Any:
        """Return the sum of weights that the loss divides by.

        Args:
          y_true: The targets of a batch, [batch, ...].
          counts: Float [batch] of 0 and 1: which examples to include; None for all.

        Returns:
          A float32 scalar.
        """
