"""From texts to the token tensors that a backbone reads."""

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

# Between the texts of a pair, after the first one's end; the others have nothing more.
_END_TWICE = ("RobertaTokenizer", "XLMRobertaTokenizer")
_WITH_SEGMENTS = ("AlbertTokenizer", "BertTokenizer", "ElectraTokenizer")


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """The tokens that are no part of a text, by id."""

    pad: int
    start: int
    end: int
    mask: int


class Tokens(NamedTuple):
    """Some texts as a backbone reads them, not yet padded.

    Attributes:
      ids: int32 [n, (tokens)], ragged.
      second_starts: int32 [n], the position of the first token of the second text; for single
        texts, the number of tokens.
      lengths: int32 [n], how many tokens there would be if nothing had been cut off.
    """

    ids: tf.RaggedTensor
    second_starts: tf.Tensor
    lengths: tf.Tensor


class TextEncoder(tf.Module):
    """Splits texts into tokens, cuts them off and puts special tokens around them.

    Attributes:
      pieces: Splits texts into pieces.
      special: The ids of special tokens.
      sequence_length: The most tokens of a text or pair, special ones included.
      needs: A module to be imported where a SavedModel with this encoder is loaded; "" for none.
      separators: How many special tokens stand between the texts of a pair.
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
        """Returns the pieces, by id."""
        return self._vocabulary()

    @property
    def has_offsets(self) -> bool:
        """Whether `pieces` says where in a text each piece stands."""
        return isinstance(self.pieces, WordPiece)

    def tokenize(self, *texts: tf.Tensor) -> Tokens:
        """Returns the tokens of texts, or of pairs of them: string [n] each; works in a graph.

        Where there are too many, what is cut off is the end of the longer text.
        """
        return self.pack_truncated(*(self.pieces(each).ids for each in texts))

    def pack_truncated(self, *parts: tf.RaggedTensor) -> Tokens:
        """Returns the tokens of texts or of pairs, given as pieces: int32 [n, (pieces)] each."""
        around = 2 if len(parts) == 1 else 2 + len(self._between)
        room = self.sequence_length - around
        sizes = [tf.cast(part.row_lengths(), tf.int32) for part in parts]
        lengths = tf.add_n(sizes) + around
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
        """Returns what the backbone reads: int32 [n, length] each."""
        sizes = tf.cast(ids.row_lengths(), tf.int32)
        mask = tf.sequence_mask(sizes, length, tf.int32)
        inputs = {"token_ids": pad_rows(ids, length, self.special.pad), "padding_mask": mask}
        if self._has_segments:
            is_first = tf.sequence_mask(second_starts, length, tf.int32)
            inputs["segment_ids"] = mask * (1 - is_first)
        return inputs

    def encode(self, *texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns what the backbone reads for texts, padded to the longest of them."""
        found = self.tokenize(*texts)
        longest = tf.cast(tf.reduce_max(found.ids.row_lengths()), tf.int32)
        return self.pad(found.ids, found.second_starts, longest)


def _all_rows(count: tf.Tensor, ids: Sequence[int]) -> tf.RaggedTensor:
    row = tf.constant([list(ids)], tf.int32)
    return tf.RaggedTensor.from_tensor(tf.tile(row, [count, 1]))


def first_tokens(part: tf.RaggedTensor, kept: tf.Tensor) -> tf.RaggedTensor:
    """Returns the first `kept` of each row, int32 [n]."""
    place = tf.ragged.range(part.row_lengths()).flat_values
    is_kept = tf.cast(place, tf.int32) < tf.gather(kept, part.value_rowids())
    return tf.ragged.boolean_mask(part, part.with_flat_values(is_kept))


@functools.lru_cache(maxsize=4)
def load_hub_tokenizer(preset: str) -> Any:
    """Returns the tokenizer of a preset of KerasHub's, or of a folder."""
    import keras_hub

    return from_hub(keras_hub.tokenizers.Tokenizer, preset, Backbone(preset=f"hub:{preset}"))


class _HubPieces(tf.Module):
    """A tokenizer of KerasHub's, which does not say where in a text its pieces stand."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.tokenizer = tokenizer  # an attribute, so that its tables are saved with a model
        # In a graph it gives a ragged tensor; called eagerly, what it gives depends on the texts.
        texts = tf.TensorSpec([None], tf.string)
        self._ids = tf.function(
            lambda texts: tf.cast(tokenizer(texts), tf.int32),
            input_signature=[texts],
            autograph=False,
        )

    def __call__(self, texts: tf.Tensor) -> Pieces:
        return Pieces(self._ids(texts), None, None)


def build_encoder(backbone: Backbone, sequence_length: int) -> TextEncoder:
    """Returns the encoder of a text backbone.

    Raises:
      BackboneError: If the preset's tokenizer is not there.
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
    place = {piece: number for number, piece in enumerate(vocabulary)}
    return TextEncoder(
        WordPiece(vocabulary, lowercase=lowercase),
        SpecialTokens(
            pad=place["[PAD]"], start=place["[CLS]"], end=place["[SEP]"], mask=place["[MASK]"]
        ),
        sequence_length=sequence_length,
        has_segments=has_segments,
        vocabulary=lambda: vocabulary,
    )


def pad_rows(rows: tf.RaggedTensor, length: tf.Tensor | int, padding: int) -> tf.Tensor:
    """Returns [n, (tokens)] as [n, length]: cut off, or filled up at the end; works in a graph."""
    wide = rows.to_tensor(padding)[:, :length]
    missing = length - tf.shape(wide)[1]
    return tf.pad(wide, [[0, 0], [0, missing]], constant_values=padding)
