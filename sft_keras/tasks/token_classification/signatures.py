"""What the SavedModel of a token classifier answers: entities and their places in the texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from sft_keras.data.prepared import Prepared
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.tasks.token_classification.alignment import NO_PLACE, word_tokens
from sft_keras.tasks.token_classification.words import Words, natural_words, spaced_words
from sft_keras.text.encoder import TextEncoder

TEXTS, SPACED = "serving_default", "spaced_words"


def entity_signatures(
    model: keras.Model, encoder: TextEncoder, types: Sequence[str], tags: Sequence[str]
) -> ServingSignatures:
    """Returns the served functions.

    Both take UTF-8 texts, string [batch]. "serving_default" finds the words itself (see
    `natural_words`); for "spaced_words" words are what stands between white space, as in the data
    trained on. Both answer, of all entities in all texts,
      text_index: int32 [entities], which text;
      label: string [entities], the type;
      text: string [entities], the entity as it stands there;
      start, end: int32 [entities], its place in characters; the one at `end` is not part of it;
      probability: float32 [entities], the mean over its words of that of their tags;
    and of the tokens
      probabilities: float32 [batch, tokens, tags], zero for padding;
      tags: string [tags], their names.

    Args:
      model: From tokens to probabilities of tags.
      encoder: Of the backbone.
      types: Of entities.
      tags: In the order of the model's outputs, see `tag_names`.
    """

    def served(find: Callable[[tf.Tensor], Words]) -> Callable[..., dict[str, tf.Tensor]]:
        def answer(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            words = find(texts)
            found = word_tokens(encoder, words.words)
            ids, second_starts, _ = found.tokens
            longest = tf.cast(tf.reduce_max(ids.row_lengths()), tf.int32)
            inputs = encoder.pad(ids, second_starts, longest)
            is_token = tf.cast(inputs["padding_mask"], tf.float32)
            probabilities = model(inputs, training=False) * is_token[:, :, tf.newaxis]
            return {
                **_entities(texts, words, found.places, probabilities, types),
                "probabilities": probabilities,
                "tags": tf.constant(list(tags)),
            }

        return answer

    spec = tf.TensorSpec([None], tf.string, name="texts")
    needs = (encoder.needs,) if encoder.needs else ()
    return ServingSignatures(
        {TEXTS: (served(natural_words), [spec]), SPACED: (served(spaced_words), [spec])},
        tracked=(encoder,),
        needs=needs,
        class_names=tags,
    )


def _entities(
    texts: tf.Tensor,
    words: Words,
    places: tf.RaggedTensor,
    probabilities: tf.Tensor,
    types: Sequence[str],
) -> dict[str, tf.Tensor]:
    """Joins words to entities, by the rule of `as_iob2`; tags are O, B-X, I-X, B-Y, ..."""
    rows = tf.cast(words.starts.value_rowids(), tf.int32)
    place = places.flat_values
    at = tf.stack([rows, tf.maximum(place, 0)], axis=1)
    by_word = tf.gather_nd(probabilities, at)
    tag = tf.argmax(by_word, axis=1, output_type=tf.int32)
    tag = tf.where(place == NO_PLACE, 0, tag)
    kind = (tag + 1) // 2  # 0 outside, 1 for the first type
    none = tf.zeros([1], tf.int32)
    before = tf.concat([none, kind[:-1]], axis=0)[: tf.size(kind)]
    row_before = tf.concat([none - 1, rows[:-1]], axis=0)[: tf.size(rows)]
    begins = (kind > 0) & ((tag % 2 == 1) | (kind != before) | (rows != row_before))
    number = tf.cumsum(tf.cast(begins, tf.int32)) - 1
    count = tf.reduce_sum(tf.cast(begins, tf.int32))
    inside = tf.boolean_mask(tf.range(tf.size(kind)), kind > 0)
    owner = tf.gather(number, inside)
    chosen = tf.gather(tf.reduce_max(by_word, axis=1), inside)
    starts = tf.boolean_mask(words.starts.flat_values, begins)
    ends = tf.math.unsorted_segment_max(tf.gather(words.ends.flat_values, inside), owner, count)
    own_rows = tf.boolean_mask(rows, begins)
    return {
        "text_index": own_rows,
        "label": tf.gather(tf.constant(list(types)), tf.boolean_mask(kind, begins) - 1),
        "text": tf.strings.substr(tf.gather(texts, own_rows), starts, ends - starts, "UTF8_CHAR"),
        "start": starts,
        "end": ends,
        "probability": tf.math.unsorted_segment_mean(chosen, owner, count),
    }


def entity_samples(
    outputs: np.ndarray, prepared: Prepared, limit: int
) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
    """Returns the first sentences of a split for the endpoint of spaced words, and its answer.

    Args:
      outputs: Probabilities, float32 [n, tokens, tags].
      prepared: The split, whose details are a `TaggedText` each.
      limit: Of sentences.
    """
    texts = [" ".join(each.words).encode() for each in prepared.details[:limit]]
    lengths = prepared.lengths[:limit]
    is_token = np.arange(lengths.max()) < lengths[:, np.newaxis]
    expected = outputs[:limit, : lengths.max()] * is_token[:, :, np.newaxis]
    return {SPACED: {"texts": np.array(texts, object)}}, expected
