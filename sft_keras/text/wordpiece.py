"""BERT's WordPiece tokenizer in core TensorFlow operations, with character offsets.

It runs in data pipelines and inside SavedModels, which then load with only TensorFlow installed,
without tensorflow-text and KerasHub.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from sft_keras.text.characters import LETTER, LIMIT, SPACE, characters

_MAX_WORD = 100  # characters; longer words are unknown, as in BERT
_CONTINUATION = "##"


class Pieces(NamedTuple):
    """The pieces of a batch of texts.

    Attributes:
      ids: int32 [n, (pieces)], ragged.
      starts: int32 [n, (pieces)], the start of each piece in its text, in characters.
      ends: int32 [n, (pieces)], the end of each piece, exclusive.
    """

    ids: tf.RaggedTensor
    starts: tf.RaggedTensor
    ends: tf.RaggedTensor


class WordPiece(tf.Module):
    """Split texts into words, and words greedily into the longest pieces of the vocabulary.

    Source: Devlin et al. 2019, arXiv:1810.04805, and Hugging Face's `tokenizers`; pieces and
    offsets are equal to those of the latter.
    """

    def __init__(
        self, vocabulary: Sequence[str], *, lowercase: bool, unknown: str = "[UNK]"
    ) -> None:
        """Build the lookup table.

        Args:
          vocabulary: The pieces, by id; those that continue a word start with "##".
          lowercase: Whether to lowercase and remove accents, as in "uncased" models.
          unknown: The piece that replaces words which cannot be split into pieces.
        """
        super().__init__(name="wordpiece")
        self.vocabulary, self.lowercase = tuple(vocabulary), lowercase
        self._unknown = self.vocabulary.index(unknown)
        self._longest = max(len(piece.removeprefix(_CONTINUATION)) for piece in self.vocabulary)
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(self.vocabulary), tf.range(len(self.vocabulary), dtype=tf.int32)
            ),
            default_value=-1,
        )

    def __call__(self, texts: tf.Tensor) -> Pieces:
        """Return the pieces of texts, string [n], UTF-8; runs in a graph."""
        count = tf.size(texts, tf.int64)
        words, rows, first_letters, offsets = self._words(texts)
        unique_words, inverse = tf.unique(words)
        pieces, lengths = self._pieces_of(unique_words)
        ids, lengths = tf.gather(pieces, inverse), tf.gather(lengths, inverse)
        piece_rows = tf.cast(tf.gather(rows, ids.value_rowids()), tf.int64)
        first = tf.gather(first_letters, ids.value_rowids()) + _before(lengths).flat_values
        last = first + lengths.flat_values - 1
        columns = (ids.flat_values, tf.gather(offsets, first), tf.gather(offsets, last) + 1)
        return Pieces(
            *(
                tf.RaggedTensor.from_value_rowids(values, piece_rows, nrows=count, validate=False)
                for values in columns
            )
        )

    def _words(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Split texts into normalized words.

        Returns:
          (words, string [w]; the row of each word's text, int32 [w]; the index of each word's first
          letter among all letters, int32 [w]; the character offset of each letter in its text,
          int32 [letters]).
        """
        tables = characters(self.lowercase)
        normal = tf.RaggedTensor.from_row_splits(tables.normal, tables.splits, validate=False)
        codes = tf.strings.unicode_decode(texts, "UTF-8")
        row_of = tf.cast(codes.value_rowids(), tf.int32)
        starts = tf.cast(tf.gather(codes.row_starts(), row_of), tf.int32)
        offset_of = tf.range(tf.size(codes.flat_values)) - starts
        # Code points beyond the tables become NUL, which is ignored like all control characters.
        known = tf.where(codes.flat_values < LIMIT, codes.flat_values, 0)
        normalized = tf.gather(normal, known)
        origin = tf.cast(normalized.value_rowids(), tf.int32)
        kinds = tf.gather(tables.kinds, normalized.flat_values)
        rows = tf.gather(row_of, origin)
        continues = (kinds[1:] == LETTER) & (kinds[:-1] == LETTER) & (rows[1:] == rows[:-1])
        is_start = tf.concat([tf.ones_like(kinds[:1], tf.bool), ~continues], axis=0)
        word_of = tf.cumsum(tf.cast(is_start, tf.int32)) - 1
        is_kept = kinds != SPACE
        letters = tf.boolean_mask(normalized.flat_values, is_kept)
        _, word_of = tf.unique(tf.boolean_mask(word_of, is_kept))  # numbered without gaps
        words = tf.RaggedTensor.from_value_rowids(letters, word_of, validate=False)
        first = tf.cast(words.row_starts(), tf.int32)
        return (
            tf.strings.unicode_encode(words, "UTF-8"),
            tf.gather(tf.boolean_mask(rows, is_kept), first),
            first,
            tf.boolean_mask(tf.gather(offset_of, origin), is_kept),
        )

    def _pieces_of(self, words: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Return the pieces of each word and the letters per piece, int32 [w, (pieces)] each.

        All words are split in parallel: every step matches the next piece of each unfinished word.
        """
        sizes = tf.strings.length(words, unit="UTF8_CHAR")
        unfinished = tf.boolean_mask(tf.range(tf.size(words)), sizes <= _MAX_WORD)
        none = tf.zeros([0], tf.int32)

        def step(
            unfinished: tf.Tensor,
            offsets: tf.Tensor,
            owners: tf.Tensor,
            ids: tf.Tensor,
            lengths: tf.Tensor,
        ) -> tuple[tf.Tensor, ...]:
            text, size = tf.gather(words, unfinished), tf.gather(sizes, unfinished)
            matches, matched_lengths = self._longest_matches(text, offsets, size)
            continues = (matches >= 0) & (offsets + matched_lengths < size)
            return (
                tf.boolean_mask(unfinished, continues),
                tf.boolean_mask(offsets + matched_lengths, continues),
                tf.concat([owners, unfinished], axis=0),
                tf.concat([ids, matches], axis=0),
                tf.concat([lengths, matched_lengths], axis=0),
            )

        _, _, owners, ids, lengths = tf.while_loop(
            lambda unfinished, *_: tf.size(unfinished) > 0,
            step,
            [unfinished, tf.zeros_like(unfinished), none, none, none],
            shape_invariants=[tf.TensorShape([None])] * 5,
        )
        return self._by_word(sizes, owners, ids, lengths)

    def _longest_matches(
        self, words: tf.Tensor, offsets: tf.Tensor, sizes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the longest piece at an offset of each word, -1 if none, and its letters.

        Args:
          words: string [w].
          offsets: int32 [w], in characters.
          sizes: int32 [w], characters per word.
        """
        remaining = sizes - offsets
        prefix = tf.where(offsets > 0, _CONTINUATION, "")
        longest = tf.minimum(self._longest, tf.reduce_max(remaining))

        def try_length(
            length: tf.Tensor, ids: tf.Tensor, lengths: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            candidates = tf.where((ids < 0) & (remaining >= length))[:, 0]
            part = tf.strings.substr(
                tf.gather(words, candidates),
                tf.gather(offsets, candidates),
                tf.fill(tf.shape(candidates), length),
                unit="UTF8_CHAR",
            )
            piece = self._table.lookup(tf.gather(prefix, candidates) + part)
            ids = tf.tensor_scatter_nd_update(ids, candidates[:, tf.newaxis], piece)
            lengths = tf.where((ids >= 0) & (lengths == 0), length, lengths)
            return length - 1, ids, lengths

        _, ids, lengths = tf.while_loop(
            lambda length, ids, lengths: (length > 0) & tf.reduce_any(ids < 0),
            try_length,
            [longest, tf.fill(tf.shape(offsets), -1), tf.zeros_like(offsets)],
        )
        return ids, lengths

    def _by_word(
        self, sizes: tf.Tensor, owners: tf.Tensor, ids: tf.Tensor, lengths: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Group pieces by word; a word that cannot be split entirely becomes the unknown piece."""
        count = tf.size(sizes)
        is_unknown = sizes > _MAX_WORD
        failed = tf.boolean_mask(owners, ids < 0)
        is_unknown |= tf.math.unsorted_segment_max(tf.ones_like(failed), failed, count) > 0
        is_valid = ~tf.gather(is_unknown, owners)
        unknown = tf.cast(tf.where(is_unknown)[:, 0], tf.int32)
        unknown_ids = tf.fill(tf.shape(unknown), self._unknown)
        owners = tf.concat([tf.boolean_mask(owners, is_valid), unknown], axis=0)
        ids = tf.concat([tf.boolean_mask(ids, is_valid), unknown_ids], axis=0)
        lengths = tf.concat([tf.boolean_mask(lengths, is_valid), tf.gather(sizes, unknown)], axis=0)
        order = tf.argsort(owners, stable=True)
        owners = tf.gather(owners, order)
        return tuple(
            tf.RaggedTensor.from_value_rowids(
                tf.gather(values, order), owners, nrows=count, validate=False
            )
            for values in (ids, lengths)
        )


def _before(lengths: tf.RaggedTensor) -> tf.RaggedTensor:
    """Return the number of letters before each piece in its word."""
    until = tf.cumsum(lengths.flat_values, exclusive=True)
    starts = tf.gather(tf.concat([until, [0]], axis=0), lengths.row_starts())
    return lengths.with_flat_values(until - tf.gather(starts, lengths.value_rowids()))
