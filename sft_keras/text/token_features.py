"""The tokens of a split's texts, held as they are and padded when a batch is made of them."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from sft_keras.data.features import Features
from sft_keras.text.encoder import TextEncoder, pad_rows


class TokenFeatures(Features):
    """Rows of what a text backbone reads."""

    def __init__(
        self,
        ids: tf.RaggedTensor,
        second_starts: tf.Tensor,
        encoder: TextEncoder,
        places: int,
        rows: np.ndarray | None = None,
    ) -> None:
        """Takes the tokens of some texts.

        Args:
          ids: int32 [any number, (tokens)].
          second_starts: int32 [any number]; see `Tokens`.
          encoder: Pads them.
          places: To how many tokens a row is padded where no length is asked for.
          rows: int64 [n], those to use; None for all.
        """
        self._ids, self._second_starts, self._encoder = ids, second_starts, encoder
        self._places = places
        self._rows = np.arange(ids.nrows()) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def row_lengths(self) -> np.ndarray:
        """Return the number of tokens of each row, int64 [n]."""
        return np.diff(self._ids.row_splits.numpy())[self._rows]

    def take(self, positions: tf.Tensor, length: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """See `Features.take`."""
        rows = tf.gather(self._rows, positions)
        places = (
            self._places if length is None else tf.minimum(tf.cast(length, tf.int32), self._places)
        )
        return self._encoder.pad(
            tf.gather(self._ids, rows), tf.gather(self._second_starts, rows), places
        )

    def subset(self, positions: np.ndarray) -> TokenFeatures:
        """See `Features.subset`."""
        return TokenFeatures(
            self._ids, self._second_starts, self._encoder, self._places, self._rows[positions]
        )


class TokenTargets(Features):
    """A whole number for each token, rows padded as those of `TokenFeatures` are."""

    def __init__(
        self, values: tf.RaggedTensor, places: int, padding: int, rows: np.ndarray | None = None
    ) -> None:
        """Takes the numbers of some texts.

        Args:
          values: int32 [any number, (tokens)].
          places: To how many a row is padded where no length is asked for.
          padding: What stands behind the last token.
          rows: int64 [n], those to use; None for all.
        """
        self._values, self._places, self._padding = values, places, padding
        self._rows = np.arange(values.nrows()) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, positions: tf.Tensor, length: tf.Tensor | None = None) -> tf.Tensor:
        """See `Features.take`."""
        own = tf.gather(self._values, tf.gather(self._rows, positions))
        places = self._places
        if length is not None:
            places = tf.minimum(tf.cast(length, tf.int32), places)
        return pad_rows(own, places, self._padding)

    def subset(self, positions: np.ndarray) -> TokenTargets:
        """See `Features.subset`."""
        return TokenTargets(self._values, self._places, self._padding, self._rows[positions])
