"""The metric watched while tokens are classified."""

from __future__ import annotations

from typing import Any

import keras


class TokenAccuracy(keras.metrics.Mean):
    """The share of tokens whose most probable class is theirs; tokens without one do not count.

    Takes y, one-hot float [batch, tokens, num_classes] with rows of zeros for tokens that have no
    class, and logits of the same shape. Sample weights are those of texts, [batch].
    """

    def __init__(self, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts a batch."""
        is_right = keras.ops.argmax(y_true, axis=-1) == keras.ops.argmax(y_pred, axis=-1)
        weights = keras.ops.max(y_true, axis=-1)
        if sample_weight is not None:
            weights *= sample_weight[:, None]
        super().update_state(keras.ops.cast(is_right, "float32"), sample_weight=weights)
