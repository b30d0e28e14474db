"""The y of windows, where their answer starts and ends, and what is learnt from it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.data.features import Features

_NO_PLACE = -1.0
_NEVER = -1e9
_ROWS_AT_ONCE = 256


class SpanTargets(Features):
    """Rows of y, made when a batch is: float32 [tokens, 2], start and end.

    1 where the answer starts, or ends; 0 at the other tokens of the passage and at [CLS]; -1 at
    places that can be no answer: the question, the other special tokens and padding.
    """

    def __init__(
        self, spans: np.ndarray, passages: np.ndarray, places: int, rows: np.ndarray | None = None
    ) -> None:
        """Takes the y of some windows.

        Args:
          spans: int32 [any number, 2], the places of the answer's first and last token; (0, 0),
            which is [CLS], where the window holds none.
          passages: int32 [any number, 2], the place of the passage's first token, and how many
            there are.
          places: See `TokenFeatures`.
          rows: int64 [n], those to use; None for all.
        """
        self._spans, self._passages, self._places = spans, passages, places
        self._rows = np.arange(len(spans)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, positions: tf.Tensor, length: tf.Tensor | None = None) -> tf.Tensor:
        """See `Features.take`."""
        rows = tf.gather(self._rows, positions)
        places = (
            self._places if length is None else tf.minimum(tf.cast(length, tf.int32), self._places)
        )
        first, count = tf.unstack(tf.gather(self._passages, rows)[..., tf.newaxis], axis=1)
        place = tf.range(places)[tf.newaxis]
        can_be = (place == 0) | ((place >= first) & (place < first + count))
        hot = tf.one_hot(tf.gather(self._spans, rows), places, axis=1)
        return tf.where(can_be[..., tf.newaxis], hot, _NO_PLACE)

    def subset(self, positions: np.ndarray) -> SpanTargets:
        """See `Features.subset`."""
        return SpanTargets(self._spans, self._passages, self._places, self._rows[positions])


class SpanCrossentropy(keras.losses.Loss):
    """The mean of two cross-entropies over the places that can be one: of start and of end.

    y is what `SpanTargets` gives, float [batch, tokens, 2]; the logits are of the same shape.

    Source: Devlin et al. 2019, arXiv:1810.04805, section 4.2.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each window, [batch]."""
        ops = keras.ops
        log_probabilities = ops.log_softmax(_masked(y_true, y_pred), axis=1)
        picked = ops.where(y_true > 0, log_probabilities, 0.0)
        return -ops.sum(picked, axis=(1, 2)) / 2


def span_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Returns 1.0 for each window whose start and end are both right, else 0.0: [batch]."""
    ops = keras.ops
    is_right = ops.argmax(_masked(y_true, y_pred), axis=1) == ops.argmax(y_true, axis=1)
    return ops.cast(ops.all(is_right, axis=1), "float32")


def mean_span_loss(logits: np.ndarray, targets: SpanTargets) -> float:
    """Returns the mean of `SpanCrossentropy` over all windows.

    Args:
      logits: float32 [n, places, 2], of as many places as the longest window has or more.
      targets: Their y.
    """
    loss = SpanCrossentropy(reduction="sum")
    total = 0.0
    for first in range(0, len(logits), _ROWS_AT_ONCE):
        some = logits[first : first + _ROWS_AT_ONCE]
        y = targets.take(tf.range(first, first + len(some)), logits.shape[1])
        total += float(loss(y, some))
    return total / len(logits)


def _masked(y_true: Any, logits: Any) -> Any:
    return keras.ops.where(y_true < 0, _NEVER, keras.ops.cast(logits, "float32"))
