"""Encode texts as the token tensors that a backbone takes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from sft_keras.backbones.hub_presets import from_hub
from sft_keras.backbones.text import text_preset, tiny_vocabulary
from sft_keras.recipe.backbone import Backbone
from sft_keras.text.wordpiece import Pieces, WordPiece

# Two end tokens separate the texts of a pair; other tokenizers have one.
_END_TWICE = ("RobertaTokenizer", "XLMRobertaTokenizer")
_WITH_SEGMENTS = ("AlbertTokenizer", "BertTokenizer", "ElectraTokenizer")


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """Ids of the special tokens."""

    pad: int
    start: int
    end: int
    mask: int


class Tokens(NamedTuple):
    """Encoded texts, not yet padded.

    Attributes:
      ids: int32 [n, (tokens)], ragged.
      second_starts: int32 [n], the position of the first token of the second text; for single
        texts, the number of tokens.
      lengths: int32 [n], the number of tokens before truncation.
    """

    ids: tf.RaggedTensor
    second_starts: tf.Tensor
    lengths: tf.Tensor


class TextEncoder(tf.Module):
    """Tokenize texts, truncate them and add special tokens.

    Attributes:
      pieces: Splits texts into pieces.
      special: The ids of the special tokens.
      sequence_length: The largest number of tokens per text or pair, special tokens included.
      needs: A module that must be imported to load a SavedModel with this encoder; "" for none.
      separators: Number of special tokens between the texts of a pair.
    """

    def __init__(
        self,
        pieces: Callable[[tf.Tensor], Pieces],
        special: SpecialTokens,
        *,
        sequence_length: int,
        has_segments: bool,
        ends_twice: bool = False,
        needs: str = "",
        vocabulary: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        super().__init__(name="text_encoder")
        self.pieces, self.special, self.needs = pieces, special, needs
        self.sequence_length, self._has_segments = sequence_length, has_segments
        self._between = (special.end,) * (2 if ends_twice else 1)
        self.separators = len(self._between)
        self._vocabulary = vocabulary

    def vocabulary(self) -> Sequence[str]:
        """Return the pieces, by id."""
        return self._vocabulary()

    @property
    def has_offsets(self) -> bool:
        """Whether `pieces` returns the character offsets of each piece."""
        return isinstance(self.pieces, WordPiece)

    def tokenize(self, *texts: tf.Tensor) -> Tokens:
        """Return the tokens of texts or text pairs, string [n] each; runs in a graph.

        If there are too many, the end of the longer text is truncated.
        """
        return self.pack_truncated(*(self.pieces(text).ids for text in texts))

    def pack_truncated(self, *parts: tf.RaggedTensor) -> Tokens:
        """Return the tokens of texts or text pairs from their pieces, int32 [n, (pieces)] each."""
        num_special = 2 if len(parts) == 1 else 2 + len(self._between)
        room = self.sequence_length - num_special
        sizes = [tf.cast(part.row_lengths(), tf.int32) for part in parts]
        lengths = tf.add_n(sizes) + num_special
        kept = [tf.minimum(sizes[0], room)]
        if len(parts) == 2:
            kept = [tf.minimum(sizes[0], tf.maximum(room - sizes[1], room - room // 2))]
            kept.append(tf.minimum(sizes[1], room - kept[0]))
        ids, second_starts = self.pack(*map(first_tokens, parts, kept))
        return Tokens(ids, second_starts, lengths)

    def pack(self, *parts: tf.RaggedTensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Return (ids, second_starts) of `Tokens` for one text or a pair, without truncation."""
        count = tf.cast(parts[0].nrows(), tf.int32)
        rows = [_all_rows(count, [self.special.start]), parts[0]]
        if len(parts) == 2:
            rows += [_all_rows(count, self._between), parts[1]]
        rows.append(_all_rows(count, [self.special.end]))
        ids = tf.concat(rows, axis=1)
        second_starts = tf.cast(ids.row_lengths(), tf.int32)
        if len(parts) == 2:
            second_starts = 1 + tf.cast(parts[0].row_lengths(), tf.int32) + len(self._between)
        return ids, second_starts

    def pad(
        self, ids: tf.RaggedTensor, second_starts: tf.Tensor, length: tf.Tensor | int
    ) -> dict[str, tf.Tensor]:
        """Return the backbone's inputs from (ids, second_starts) of `Tokens`, int32 [n, length]."""
        sizes = tf.cast(ids.row_lengths(), tf.int32)
        mask = tf.sequence_mask(sizes, length, tf.int32)
        inputs = {"token_ids": pad_rows(ids, length, self.special.pad), "padding_mask": mask}
        if self._has_segments:
            is_first = tf.sequence_mask(second_starts, length, tf.int32)
            inputs["segment_ids"] = mask * (1 - is_first)
        return inputs

    def encode(self, *texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the backbone's inputs for texts or text pairs, padded to the longest of them."""
        tokens = self.tokenize(*texts)
        longest = tf.cast(tf.reduce_max(tokens.ids.row_lengths()), tf.int32)
        return self.pad(tokens.ids, tokens.second_starts, longest)


def _all_rows(count: tf.Tensor, ids: Sequence[int]) -> tf.RaggedTensor:
    row = tf.constant([list(ids)], tf.int32)
    return tf.RaggedTensor.from_tensor(tf.tile(row, [count, 1]))


def first_tokens(part: tf.RaggedTensor, kept: tf.Tensor) -> tf.RaggedTensor:
    """Return the first `kept`, int32 [n], tokens of each row."""
    position = tf.ragged.range(part.row_lengths()).flat_values
    is_kept = tf.cast(position, tf.int32) < tf.gather(kept, part.value_rowids())
    return tf.ragged.boolean_mask(part, part.with_flat_values(is_kept))


@functools.lru_cache(maxsize=4)
def load_hub_tokenizer(preset: str) -> Any:
    """Return the tokenizer of a KerasHub preset or preset folder."""
    import keras_hub

    return from_hub(keras_hub.tokenizers.Tokenizer, preset, Backbone(preset=f"hub:{preset}"))


class _HubPieces(tf.Module):
    """A KerasHub tokenizer, which does not return character offsets."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.tokenizer = tokenizer  # an attribute, so that its tables are saved with a model
        # Graphs return a ragged tensor; the kind of tensor of eager calls depends on the texts.
        texts = tf.TensorSpec([None], tf.string)
        self._ids = tf.function(
            lambda texts: tf.cast(tokenizer(texts), tf.int32),
            input_signature=[texts],
            autograph=False,
        )

    def __call__(self, texts: tf.Tensor) -> Pieces:
        return Pieces(self._ids(texts), None, None)


def build_encoder(backbone: Backbone, sequence_length: int) -> TextEncoder:
    """Return the encoder of a text backbone.

    Args:
      backbone: The recipe's backbone section.
      sequence_length: The largest number of tokens per text or pair.

    Raises:
      BackboneError: If the preset has no tokenizer.
    """
    if backbone.preset.startswith("tiny:"):
        return _wordpiece_encoder(tiny_vocabulary(), True, sequence_length, has_segments=True)
    tokenizer = load_hub_tokenizer(text_preset(backbone))
    kind = type(tokenizer).__name__
    has_segments = kind in _WITH_SEGMENTS
    if hasattr(tokenizer, "lowercase") and isinstance(tokenizer.vocabulary, list):
        return _wordpiece_encoder(
            tokenizer.vocabulary, tokenizer.lowercase, sequence_length, has_segments
        )
    return TextEncoder(
        _HubPieces(tokenizer),
        SpecialTokens(
            pad=tokenizer.pad_token_id,
            start=tokenizer.start_token_id,
            end=tokenizer.end_token_id,
            mask=tokenizer.mask_token_id,
        ),
        sequence_length=sequence_length,
        has_segments=has_segments,
        ends_twice=kind in _END_TWICE,
        needs="tensorflow_text",
        vocabulary=functools.cache(
            lambda: tuple(map(tokenizer.id_to_token, range(tokenizer.vocabulary_size())))
        ),
    )


def _wordpiece_encoder(
    vocabulary: Sequence[str], lowercase: bool, sequence_length: int, has_segments: bool
) -> TextEncoder:
    ids = {piece: id_ for id_, piece in enumerate(vocabulary)}
    return TextEncoder(
        WordPiece(vocabulary, lowercase=lowercase),
        SpecialTokens(pad=ids["[PAD]"], start=ids["[CLS]"], end=ids["[SEP]"], mask=ids["[MASK]"]),
        sequence_length=sequence_length,
        has_segments=has_segments,
        vocabulary=lambda: vocabulary,
    )


def pad_rows(rows: tf.RaggedTensor, length: tf.Tensor | int, padding: int) -> tf.Tensor:
    """Truncate or pad [n, (tokens)] at the end to [n, length]; runs in a graph."""
    wide = rows.to_tensor(padding)[:, :length]
    missing = length - tf.shape(wide)[1]
    return tf.pad(wide, [[0, 0], [0, missing]], constant_values=padding)
