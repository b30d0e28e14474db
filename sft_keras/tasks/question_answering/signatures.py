"""The SavedModel of a question-answering model, with tokenizer, windows and decoding inside."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from sft_keras.tasks.question_answering.decode import (
    count_windows,
    decode_answers,
    decode_spans,
    is_answered,
)
from sft_keras.tasks.question_answering.preprocess import Encode, Window
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.text.encoder import TextEncoder

ENDPOINT = "serving_default"
ARGUMENTS = ("questions", "contexts")


def question_answering_signatures(
    model: keras.Model,
    encoder: TextEncoder,
    encode: Encode,
    *,
    max_answer_length: int,
    no_answer_threshold: float | None,
) -> ServingSignatures:
    """Return the served function.

    "serving_default" takes `questions` and `contexts`, the passages, UTF-8 texts of any length,
    string [batch] each, and returns
      answer: string [batch], a span of the passage, or "" for no answer;
      start, end: int32 [batch], the span in characters, `end` exclusive; -1 for no answer;
      probability: float32 [batch], probability of the answer, or of there being none;
      probabilities: float32 [batch, 2], of the best span, and of there being no answer.

    Args:
      model: Maps windows to start and end logits.
      encoder: Encoder of the backbone.
      encode: Makes windows of questions and passages.
      max_answer_length: The largest number of tokens in an answer.
      no_answer_threshold: See `is_answered`.
    """

    def answer(questions: tf.Tensor, contexts: tf.Tensor) -> dict[str, tf.Tensor]:
        windows = encode(questions, contexts)
        longest = tf.cast(tf.reduce_max(windows.token_ids.row_lengths()), tf.int32)
        inputs = encoder.pad(windows.token_ids, windows.passage_starts, longest)
        spans = decode_spans(model(inputs, training=False), windows, max_answer_length)
        answered = is_answered(spans, no_answer_threshold)
        start, end = (tf.where(answered, edge, 0) for edge in (spans.starts, spans.ends))
        return {
            "answer": tf.strings.substr(contexts, start, end - start, unit="UTF8_CHAR"),
            "start": tf.where(answered, start, -1),
            "end": tf.where(answered, end, -1),
            "probability": tf.where(answered, *tf.unstack(spans.probabilities, axis=1)),
            "probabilities": spans.probabilities,
        }

    specs = [tf.TensorSpec([None], tf.string, name=name) for name in ARGUMENTS]
    return ServingSignatures({ENDPOINT: (answer, specs)}, tracked=(encoder,))


def question_answering_samples(
    logits: np.ndarray, windows: Sequence[Window], limit: int, max_answer_length: int
) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
    """Return questions to verify the exported model with, and the probabilities it must return.

    Args:
      logits: float32 [w, positions, 2], those of the trained model for a split.
      windows: The windows of the split.
      limit: The largest number of questions.
      max_answer_length: The largest number of tokens in an answer.

    Returns:
      Inputs by endpoint and argument, and "probabilities", float32 [questions, 2].
    """
    num_windows = count_windows(windows, limit)
    answers = decode_answers(logits[:num_windows], windows[:num_windows], max_answer_length)
    inputs = {
        "questions": [question.question.encode() for question in answers.questions],
        "contexts": [question.context.encode() for question in answers.questions],
    }
    arrays = {name: np.array(texts, object) for name, texts in inputs.items()}
    return {ENDPOINT: arrays}, answers.spans.probabilities
