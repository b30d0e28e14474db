"""The tokens of a split's texts, stored at their own length and padded per batch."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from typing_extensions import override

from sft_keras.data.features import Features
from sft_keras.text.encoder import TextEncoder, pad_rows


class TokenFeatures(Features):
    """Token inputs of a text backbone."""

    def __init__(
        self,
        ids: tf.RaggedTensor,
        second_starts: tf.Tensor,
        encoder: TextEncoder,
        max_length: int,
        rows: np.ndarray | None = None,
    ) -> None:
        """Select rows of tokens.

        Args:
          ids: int32 [any number of rows, (tokens)].
          second_starts: int32 [any number of rows], as in `Tokens`.
          encoder: Pads the rows.
          max_length: The length in tokens that rows are padded to by default, and at most.
          rows: int64 [n], the rows to use; None for all.
        """
        self._ids, self._second_starts, self._encoder = ids, second_starts, encoder
        self._max_length = max_length
        self._rows = np.arange(ids.nrows()) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def row_lengths(self) -> np.ndarray:
        """Return the number of tokens of each row, int64 [n]."""
        return np.diff(self._ids.row_splits.numpy())[self._rows]

    @override
    def take(self, positions: tf.Tensor, length: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        rows = tf.gather(self._rows, positions)
        ids, second_starts = tf.gather(self._ids, rows), tf.gather(self._second_starts, rows)
        return self._encoder.pad(ids, second_starts, _batch_length(length, self._max_length))

    @override
    def subset(self, positions: np.ndarray) -> TokenFeatures:
        return TokenFeatures(
            self._ids, self._second_starts, self._encoder, self._max_length, self._rows[positions]
        )


class TokenTargets(Features):
    """An integer target per token, with rows padded as those of `TokenFeatures`."""

    def __init__(
        self, values: tf.RaggedTensor, max_length: int, padding: int, rows: np.ndarray | None = None
    ) -> None:
        """Select rows of targets.

        Args:
          values: int32 [any number of rows, (tokens)].
          max_length: The length in tokens that rows are padded to by default, and at most.
          padding: The value after the last token.
          rows: int64 [n], the rows to use; None for all.
        """
        self._values, self._max_length, self._padding = values, max_length, padding
        self._rows = np.arange(values.nrows()) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @override
    def take(self, positions: tf.Tensor, length: tf.Tensor | None = None) -> tf.Tensor:
        values = tf.gather(self._values, tf.gather(self._rows, positions))
        return pad_rows(values, _batch_length(length, self._max_length), self._padding)

    @override
    def subset(self, positions: np.ndarray) -> TokenTargets:
        return TokenTargets(self._values, self._max_length, self._padding, self._rows[positions])


def _batch_length(length: tf.Tensor | None, max_length: int) -> tf.Tensor | int:
    return max_length if length is None else tf.minimum(tf.cast(length, tf.int32), max_length)
