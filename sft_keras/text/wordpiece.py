"""BERT's tokenizer in TensorFlow's own operations, with the place of each piece in the text.

It runs in a data pipeline and inside a SavedModel alike, which then loads where nothing but
TensorFlow is installed: neither tensorflow-text nor KerasHub.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from sft_keras.text.characters import LETTER, LIMIT, SPACE, characters

_LONGEST_WORD = 100  # characters; longer ones are unknown, as in BERT
_CONTINUED = "##"


class Pieces(NamedTuple):
    """The pieces of some texts.

    Attributes:
      ids: int32 [n, (pieces)], ragged.
      starts: int32 [n, (pieces)], where a piece starts in its text, in characters.
      ends: The same for where it ends; the character there is not part of it.
    """

    ids: tf.RaggedTensor
    starts: tf.RaggedTensor
    ends: tf.RaggedTensor


class WordPiece(tf.Module):
    """Splits texts into words, and words into the longest pieces that the vocabulary has.

    Source: Devlin et al. 2019, arXiv:1810.04805, and Hugging Face's `tokenizers`, whose pieces and
    places it gives.
    """

    def __init__(
        self, vocabulary: Sequence[str], *, lowercase: bool, unknown: str = "[UNK]"
    ) -> None:
        """Makes a tokenizer.

        Args:
          vocabulary: The pieces, by id; those within words begin with "##".
          lowercase: Whether letters lose case and accents, as in "uncased" models.
          unknown: The piece that stands for a word of which no piece is known.
        """
        super().__init__(name="wordpiece")
        self.vocabulary, self.lowercase = tuple(vocabulary), lowercase
        self._unknown = self.vocabulary.index(unknown)
        self._longest = max(len(piece.removeprefix(_CONTINUED)) for piece in self.vocabulary)
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(self.vocabulary), tf.range(len(self.vocabulary), dtype=tf.int32)
            ),
            default_value=-1,
        )

    def __call__(self, texts: tf.Tensor) -> Pieces:
        """Returns the pieces of texts, string [n], UTF-8; works in a graph."""
        count = tf.size(texts, tf.int64)
        words, rows, letters, places = self._words(texts)
        different, which = tf.unique(words)
        pieces, lengths = self._pieces_of(different)
        # Back from different words to all of them.
        ids, lengths = tf.gather(pieces, which), tf.gather(lengths, which)
        own_rows = tf.cast(tf.gather(rows, ids.value_rowids()), tf.int64)
        first = tf.gather(letters, ids.value_rowids()) + _before(lengths).flat_values
        last = first + lengths.flat_values - 1
        found = (ids.flat_values, tf.gather(places, first), tf.gather(places, last) + 1)
        return Pieces(
            *(
                tf.RaggedTensor.from_value_rowids(each, own_rows, nrows=count, validate=False)
                for each in found
            )
        )

    def _words(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Splits texts.

        Returns:
          (words string [w], the text of each int32 [w], the place of its first letter among all
          letters int32 [w]; the place of each letter in its text int32 [letters]).
        """
        tables = characters(self.lowercase)
        normal = tf.RaggedTensor.from_row_splits(tables.normal, tables.splits, validate=False)
        codes = tf.strings.unicode_decode(texts, "UTF-8")
        row_of = tf.cast(codes.value_rowids(), tf.int32)
        starts = tf.cast(tf.gather(codes.row_starts(), row_of), tf.int32)
        place_of = tf.range(tf.size(codes.flat_values)) - starts
        # A NUL is left out like all control characters.
        known = tf.where(codes.flat_values < LIMIT, codes.flat_values, 0)
        changed = tf.gather(normal, known)
        origin = tf.cast(changed.value_rowids(), tf.int32)
        kinds = tf.gather(tables.kinds, changed.flat_values)
        rows = tf.gather(row_of, origin)
        goes_on = (kinds[1:] == LETTER) & (kinds[:-1] == LETTER) & (rows[1:] == rows[:-1])
        begins = tf.concat([tf.ones_like(kinds[:1], tf.bool), ~goes_on], axis=0)
        word_of = tf.cumsum(tf.cast(begins, tf.int32)) - 1
        is_kept = kinds != SPACE
        letters = tf.boolean_mask(changed.flat_values, is_kept)
        _, word_of = tf.unique(tf.boolean_mask(word_of, is_kept))  # numbered without gaps
        words = tf.RaggedTensor.from_value_rowids(letters, word_of, validate=False)
        first = tf.cast(words.row_starts(), tf.int32)
        return (
            tf.strings.unicode_encode(words, "UTF-8"),
            tf.gather(tf.boolean_mask(rows, is_kept), first),
            first,
            tf.boolean_mask(tf.gather(place_of, origin), is_kept),
        )

    def _pieces_of(self, words: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Returns the pieces of each word, and the letters of each piece: int32 [w, (pieces)]."""
        sizes = tf.strings.length(words, unit="UTF8_CHAR")
        number = tf.range(tf.size(words))
        none = tf.zeros([0], tf.int32)
        open_ = tf.boolean_mask(number, sizes <= _LONGEST_WORD)
        at = tf.zeros_like(open_)
        owners, ids, lengths = none, none, none

        def matched(open_: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """Returns the longest piece at a place of each word, -1 if none, and its letters."""
            text, left = tf.gather(words, open_), tf.gather(sizes, open_) - at
            prefix = tf.where(at > 0, _CONTINUED, "")
            longest = tf.minimum(self._longest, tf.reduce_max(left))

            def shorter(
                length: tf.Tensor, found: tf.Tensor, letters: tf.Tensor
            ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
                tried = tf.where((found < 0) & (left >= length))[:, 0]
                part = tf.strings.substr(
                    tf.gather(text, tried),
                    tf.gather(at, tried),
                    tf.fill(tf.shape(tried), length),
                    unit="UTF8_CHAR",
                )
                piece = self._table.lookup(tf.gather(prefix, tried) + part)
                found = tf.tensor_scatter_nd_update(found, tried[:, tf.newaxis], piece)
                letters = tf.where((found >= 0) & (letters == 0), length, letters)
                return length - 1, found, letters

            _, found, letters = tf.while_loop(
                lambda length, found, letters: (length > 0) & tf.reduce_any(found < 0),
                shorter,
                [longest, tf.fill(tf.shape(at), -1), tf.zeros_like(at)],
            )
            return found, letters

        def step(
            open_: tf.Tensor, at: tf.Tensor, owners: tf.Tensor, ids: tf.Tensor, lengths: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            found, letters = matched(open_, at)
            owners = tf.concat([owners, open_], axis=0)
            ids, lengths = tf.concat([ids, found], axis=0), tf.concat([lengths, letters], axis=0)
            goes_on = (found >= 0) & (at + letters < tf.gather(sizes, open_))
            return (
                tf.boolean_mask(open_, goes_on),
                tf.boolean_mask(at + letters, goes_on),
                owners,
                ids,
                lengths,
            )

        growing = [tf.TensorShape([None])] * 5
        _, _, owners, ids, lengths = tf.while_loop(
            lambda open_, *_: tf.size(open_) > 0,
            step,
            [open_, at, owners, ids, lengths],
            shape_invariants=growing,
        )
        return self._by_word(sizes, owners, ids, lengths)

    def _by_word(
        self, sizes: tf.Tensor, owners: tf.Tensor, ids: tf.Tensor, lengths: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Orders pieces by word; a word with a part that is no piece is unknown as a whole."""
        count = tf.size(sizes)
        is_bad = sizes > _LONGEST_WORD
        failed = tf.boolean_mask(owners, ids < 0)
        is_bad |= tf.math.unsorted_segment_max(tf.ones_like(failed), failed, count) > 0
        good = ~tf.gather(is_bad, owners)
        bad = tf.cast(tf.where(is_bad)[:, 0], tf.int32)
        owners = tf.concat([tf.boolean_mask(owners, good), bad], axis=0)
        ids = tf.concat([tf.boolean_mask(ids, good), tf.fill(tf.shape(bad), self._unknown)], axis=0)
        lengths = tf.concat([tf.boolean_mask(lengths, good), tf.gather(sizes, bad)], axis=0)
        order = tf.argsort(owners, stable=True)
        owners = tf.gather(owners, order)
        return tuple(
            tf.RaggedTensor.from_value_rowids(
                tf.gather(each, order), owners, nrows=count, validate=False
            )
            for each in (ids, lengths)
        )


def _before(lengths: tf.RaggedTensor) -> tf.RaggedTensor:
    """Returns how many letters of its word come before each piece."""
    until = tf.cumsum(lengths.flat_values, exclusive=True)
    starts = tf.gather(tf.concat([until, [0]], axis=0), lengths.row_starts())
    return lengths.with_flat_values(until - tf.gather(starts, lengths.value_rowids()))
