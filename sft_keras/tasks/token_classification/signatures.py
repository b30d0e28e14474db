"""The SavedModel of a token classifier: entities with their character offsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from sft_keras.data.prepared import Prepared
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.tasks.token_classification.alignment import NO_TOKEN, tokenize_words
from sft_keras.tasks.token_classification.decode import tagged_sentences
from sft_keras.tasks.token_classification.words import Words, natural_words, spaced_words
from sft_keras.text.encoder import TextEncoder

TEXTS, SPACED = "serving_default", "spaced_words"
"""The two endpoints."""


def entity_signatures(
    model: keras.Model, encoder: TextEncoder, types: Sequence[str], tags: Sequence[str]
) -> ServingSignatures:
    """Return the served functions.

    Both take UTF-8 texts, string [batch]. "serving_default" splits off punctuation, see
    `natural_words`; "spaced_words" splits only at white space, as the training data is. Both
    return, for all entities in all texts,
      text_index: int32 [entities], the text that the entity is in;
      label: string [entities], its type;
      text: string [entities], the entity as it is in the text;
      start, end: int32 [entities], its characters in the text, `end` exclusive;
      probability: float32 [entities], the mean probability of the tags of its words;
    and for all tokens
      probabilities: float32 [batch, tokens, tags], 0 for padding;
      tags: string [tags], the names of the tags.

    Args:
      model: Maps tokens to probabilities of tags.
      encoder: Encoder of the backbone.
      types: The entity types.
      tags: The tags in the order of the model's outputs, see `tag_names`.
    """

    def build_endpoint(split: Callable[[tf.Tensor], Words]) -> Callable[..., dict[str, tf.Tensor]]:
        def find_entities(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            words = split(texts)
            word_tokens = tokenize_words(encoder, words.words)
            ids, second_starts, _ = word_tokens.tokens
            longest = tf.cast(tf.reduce_max(ids.row_lengths()), tf.int32)
            inputs = encoder.pad(ids, second_starts, longest)
            is_token = tf.cast(inputs["padding_mask"], tf.float32)
            probabilities = model(inputs, training=False) * is_token[:, :, tf.newaxis]
            first_subtokens = word_tokens.first_subtokens
            return {
                **_decode_entities(texts, words, first_subtokens, probabilities, types),
                "probabilities": probabilities,
                "tags": tf.constant(list(tags)),
            }

        return find_entities

    spec = tf.TensorSpec([None], tf.string, name="texts")
    needs = (encoder.needs,) if encoder.needs else ()
    endpoints = {TEXTS: natural_words, SPACED: spaced_words}
    return ServingSignatures(
        {name: (build_endpoint(split), [spec]) for name, split in endpoints.items()},
        tracked=(encoder,),
        needs=needs,
        class_names=tags,
    )


def entity_samples(
    outputs: np.ndarray, prepared: Prepared, limit: int
) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
    """Return sentences to verify the exported model with, and the probabilities it must return.

    Args:
      outputs: Probabilities of the trained model for a split, float32 [n, tokens, tags].
      prepared: The split.
      limit: The largest number of sentences.

    Returns:
      Inputs by endpoint and argument, and "probabilities", float32 [sentences, tokens, tags].
    """
    sentences = tagged_sentences(prepared)[:limit]
    texts = [" ".join(sentence.words).encode() for sentence in sentences]
    lengths = np.asarray(prepared.lengths)[:limit]
    is_token = np.arange(lengths.max()) < lengths[:, np.newaxis]
    expected = outputs[:limit, : lengths.max()] * is_token[:, :, np.newaxis]
    return {SPACED: {"texts": np.array(texts, object)}}, expected


def _decode_entities(
    texts: tf.Tensor,
    words: Words,
    first_subtokens: tf.RaggedTensor,
    probabilities: tf.Tensor,
    types: Sequence[str],
) -> dict[str, tf.Tensor]:
    """Join words into entities, by the rules of `to_iob2`; the tags are O, B-X, I-X, B-Y, ...

    Args:
      texts: string [batch].
      words: Their words.
      first_subtokens: int32 [batch, (words)], see `WordTokens`.
      probabilities: float32 [batch, tokens, tags].
      types: The entity types X, Y, ...

    Returns:
      The outputs of `entity_signatures` with one value per entity.
    """
    rows = tf.cast(words.starts.value_rowids(), tf.int32)
    subtoken = first_subtokens.flat_values
    indices = tf.stack([rows, tf.maximum(subtoken, 0)], axis=1)
    word_probabilities = tf.gather_nd(probabilities, indices)
    tag = tf.argmax(word_probabilities, axis=1, output_type=tf.int32)
    tag = tf.where(subtoken == NO_TOKEN, 0, tag)
    entity_type = (tag + 1) // 2  # 0 outside, 1 for the first type

    zero = tf.zeros([1], tf.int32)
    previous_type = tf.concat([zero, entity_type[:-1]], axis=0)[: tf.size(entity_type)]
    previous_row = tf.concat([zero - 1, rows[:-1]], axis=0)[: tf.size(rows)]
    is_b_tag = tag % 2 == 1
    begins = (entity_type > 0) & (
        is_b_tag | (entity_type != previous_type) | (rows != previous_row)
    )
    entity_of_word = tf.cumsum(tf.cast(begins, tf.int32)) - 1
    num_entities = tf.reduce_sum(tf.cast(begins, tf.int32))

    inside = tf.boolean_mask(tf.range(tf.size(entity_type)), entity_type > 0)
    entity = tf.gather(entity_of_word, inside)
    tag_probabilities = tf.gather(tf.reduce_max(word_probabilities, axis=1), inside)
    word_ends = tf.gather(words.ends.flat_values, inside)
    starts = tf.boolean_mask(words.starts.flat_values, begins)
    ends = tf.math.unsorted_segment_max(word_ends, entity, num_entities)
    text_index = tf.boolean_mask(rows, begins)
    type_index = tf.boolean_mask(entity_type, begins) - 1
    entity_texts = tf.gather(texts, text_index)
    return {
        "text_index": text_index,
        "label": tf.gather(tf.constant(list(types)), type_index),
        "text": tf.strings.substr(entity_texts, starts, ends - starts, "UTF8_CHAR"),
        "start": starts,
        "end": ends,
        "probability": tf.math.unsorted_segment_mean(tag_probabilities, entity, num_entities),
    }
