"""What the SavedModel of a question answerer answers, tokenizer and windows inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from sft_keras.tasks.question_answering.decode import (
    best_spans,
    given,
    question_answers,
    question_count,
)
from sft_keras.tasks.question_answering.preprocess import Window
from sft_keras.tasks.question_answering.windows import Windows
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.text.encoder import TextEncoder

QUESTIONS = "serving_default"
ARGUMENTS = ("questions", "contexts")


def question_signatures(
    model: keras.Model,
    encoder: TextEncoder,
    encode: Callable[[tf.Tensor, tf.Tensor], Windows],
    *,
    max_answer_length: int,
    no_answer_threshold: float | None,
) -> ServingSignatures:
    """Returns the served function.

    "serving_default" takes `questions` and `contexts`, the passages, UTF-8, string [batch] each,
    of any length, and answers
      answer: string [batch], a part of the passage, or "" for "it does not say";
      start, end: int32 [batch], where in the passage it is, in characters; -1 for nowhere;
      probability: float32 [batch], how probable what is answered is;
      probabilities: float32 [batch, 2], of the best part of the passage, and of there being none.

    Args:
      model: From windows to logits.
      encoder: Of its backbone.
      encode: From questions and contexts to windows.
      max_answer_length: The most tokens of an answer.
      no_answer_threshold: See `sft_keras.tasks.question_answering.decode.given`.
    """

    def answer(questions: tf.Tensor, contexts: tf.Tensor) -> dict[str, tf.Tensor]:
        found = encode(questions, contexts)
        longest = tf.cast(tf.reduce_max(found.ids.row_lengths()), tf.int32)
        logits = model(encoder.pad(found.ids, found.firsts, longest), training=False)
        spans = best_spans(logits, found, max_answer_length)
        gives = given(spans, no_answer_threshold)
        start, end = (tf.where(gives, each, 0) for each in (spans.starts, spans.ends))
        return {
            "answer": tf.strings.substr(contexts, start, end - start, unit="UTF8_CHAR"),
            "start": tf.where(gives, start, -1),
            "end": tf.where(gives, end, -1),
            "probability": tf.where(gives, *tf.unstack(spans.probabilities, axis=1)),
            "probabilities": spans.probabilities,
        }

    specs = [tf.TensorSpec([None], tf.string, name=name) for name in ARGUMENTS]
    return ServingSignatures({QUESTIONS: (answer, specs)}, tracked=(encoder,))


def question_samples(
    logits: np.ndarray, details: Sequence[Window], limit: int, max_answer_length: int
) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
    """Returns the first `limit` questions as inputs of the endpoint, and its "probabilities"."""
    count = question_count(details, limit)
    answers = question_answers(logits[:count], details[:count], max_answer_length)
    columns = (
        [question.question.encode() for question in answers.questions],
        [question.context.encode() for question in answers.questions],
    )
    given_ = {name: np.array(each, object) for name, each in zip(ARGUMENTS, columns)}
    return {QUESTIONS: given_}, answers.spans.probabilities
