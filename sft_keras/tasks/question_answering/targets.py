"""Span targets: where the answer starts and ends in each window, with their loss and accuracy."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import override

from sft_keras.data.features import Features

_NOT_A_CANDIDATE = -1.0
_MASKED_LOGIT = -1e9
_ROWS_PER_CHUNK = 256


class SpanTargets(Features):
    """Targets built when a batch is: float32 [windows, tokens, 2], start and end.

    1 where the answer starts or ends; 0 at [CLS] and at the other tokens of the passage; -1 at
    tokens that are no candidates: the question, the other special tokens and padding.
    """

    def __init__(
        self, spans: np.ndarray, passages: np.ndarray, places: int, rows: np.ndarray | None = None
    ) -> None:
        """Hold the spans of some windows.

        Args:
          spans: int32 [m, 2], positions of the first and the last token of the answer; (0, 0),
            which is [CLS], where the window holds no answer.
          passages: int32 [m, 2], position of the first passage token and number of passage tokens.
          places: The length of a row unless another is requested, see `TokenFeatures`.
          rows: int64 [n], the rows to use; None for all.
        """
        self._spans, self._passages, self._places = spans, passages, places
        self._rows = np.arange(len(spans)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @override
    def take(self, positions: tf.Tensor, length: tf.Tensor | None = None) -> tf.Tensor:
        rows = tf.gather(self._rows, positions)
        width = (
            self._places if length is None else tf.minimum(tf.cast(length, tf.int32), self._places)
        )
        start, size = tf.unstack(tf.gather(self._passages, rows)[..., tf.newaxis], axis=1)
        token = tf.range(width)[tf.newaxis]
        is_candidate = (token == 0) | ((token >= start) & (token < start + size))
        one_hot = tf.one_hot(tf.gather(self._spans, rows), width, axis=1)
        return tf.where(is_candidate[..., tf.newaxis], one_hot, _NOT_A_CANDIDATE)

    @override
    def subset(self, positions: np.ndarray) -> SpanTargets:
        return SpanTargets(self._spans, self._passages, self._places, self._rows[positions])


class SpanCrossentropy(keras.losses.Loss):
    """Mean of the cross-entropies of start and end, each over the candidate tokens of a window.

    Targets are those of `SpanTargets`, float [batch, tokens, 2]; predictions are logits of the same
    shape. Source: Devlin et al. 2019, arXiv:1810.04805, section 4.2.
    """

    @override
    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each window, [batch]."""
        ops = keras.ops
        log_probabilities = ops.log_softmax(_mask_logits(y_true, y_pred), axis=1)
        target_log_probabilities = ops.where(y_true > 0, log_probabilities, 0.0)
        return -ops.sum(target_log_probabilities, axis=(1, 2)) / 2


def span_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Return 1.0 for each window whose start and end are both correct, else 0.0: [batch]."""
    ops = keras.ops
    is_correct = ops.argmax(_mask_logits(y_true, y_pred), axis=1) == ops.argmax(y_true, axis=1)
    return ops.cast(ops.all(is_correct, axis=1), "float32")


def mean_span_loss(logits: np.ndarray, targets: SpanTargets) -> float:
    """Return the mean of `SpanCrossentropy` over all windows.

    Args:
      logits: float32 [n, positions, 2], with at least as many positions as the longest window.
      targets: The targets of these windows.
    """
    loss = SpanCrossentropy(reduction="sum")
    total = 0.0
    for start in range(0, len(logits), _ROWS_PER_CHUNK):
        chunk = logits[start : start + _ROWS_PER_CHUNK]
        y = targets.take(tf.range(start, start + len(chunk)), logits.shape[1])
        total += float(loss(y, chunk))
    return total / len(logits)


def _mask_logits(y_true: Any, logits: Any) -> Any:
    return keras.ops.where(y_true < 0, _MASKED_LOGIT, keras.ops.cast(logits, "float32"))
