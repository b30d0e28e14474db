"""Preprocessing: tokenize questions and passages into sliding windows once, before training."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from sft_keras.data.examples import Examples
from sft_keras.data.prepared import Prepared
from sft_keras.tasks.question_answering.examples import Answer, Question
from sft_keras.tasks.question_answering.source import question_stream
from sft_keras.tasks.question_answering.targets import SpanTargets
from sft_keras.tasks.question_answering.windows import Windows
from sft_keras.text.encoder import TextEncoder
from sft_keras.text.preprocess import (
    length_facts,
    longest_row,
    prepare_tokens,
    read_splits,
    row_digests,
)
from sft_keras.text.token_features import TokenFeatures

_BATCH_SIZE = 256
_NO_SPAN = (0, 0)  # [CLS]

Encode = Callable[[tf.Tensor, tf.Tensor], Windows]
"""From questions and passages, string [n] each, to their windows."""


class Passage(NamedTuple):
    """A passage with the character spans of its tokens, int32 [passage tokens] each."""

    text: str
    char_starts: np.ndarray
    char_ends: np.ndarray


class Window(NamedTuple):
    """One window of a question, see `Windows` for its numbers."""

    question: Question
    passage: Passage
    passage_start: int
    passage_offset: int
    passage_length: int


@dataclasses.dataclass(frozen=True)
class _TokenizedSplit:
    """The w windows of a split of n questions.

    Attributes:
      token_ids: int32 [w, (tokens)].
      windows: [w].
      question_indices: int64 [w], the position in the split of each window's question.
      lengths: int32 [n], see `Windows`.
      is_truncated: bool [n], see `Windows`.
    """

    token_ids: tf.RaggedTensor
    windows: list[Window]
    question_indices: np.ndarray
    lengths: np.ndarray
    is_truncated: np.ndarray


def prepare_questions(
    examples_by_split: Mapping[str, Examples],
    encoder: TextEncoder,
    encode: Encode,
    progress: Callable[[int, int], None],
) -> dict[str, Prepared]:
    """Tokenize all splits; the examples of the result are windows, with a `Window` as details.

    Args:
      examples_by_split: The splits; see `question_stream` for the elements of their streams.
      encoder: Encoder of the backbone.
      encode: Makes windows of questions and passages with this encoder.
      progress: Called with (done, total) questions over all splits.
    """
    texts = tf.TensorSpec([None], tf.string)
    encode_batch = tf.function(encode, input_signature=[texts, texts], autograph=False)
    tokenized = read_splits(
        examples_by_split, lambda examples: _tokenize(examples, encode_batch), progress
    )
    width = longest_row((split.token_ids for split in tokenized.values()), encoder.sequence_length)
    return {
        name: _prepared(examples_by_split[name], split, encoder, width)
        for name, split in tokenized.items()
    }


def answer_token_span(window: Window) -> tuple[int, int]:
    """Return the positions in the row of the first and the last token of the first answer.

    (0, 0), which is [CLS], if the window does not hold the whole answer, or there is none.
    """
    char_starts, char_ends = window.passage.char_starts, window.passage.char_ends
    num_tokens = len(char_starts)
    if not window.question.answers or not num_tokens:
        return _NO_SPAN
    answer = window.question.answers[0]
    answer_end = answer.start + len(answer.text)
    # All tokens that overlap the answer; if none does, the nearest one.
    first = min(int(np.searchsorted(char_ends, answer.start, side="right")), num_tokens - 1)
    last = max(int(np.searchsorted(char_starts, answer_end, side="left")) - 1, first)
    if first < window.passage_offset or last >= window.passage_offset + window.passage_length:
        return _NO_SPAN
    shift = window.passage_start - window.passage_offset
    return first + shift, last + shift


def _tokenize(examples: Examples, encode: Encode) -> _TokenizedSplit:
    passages: dict[str, Passage] = {}
    token_ids: list[tf.RaggedTensor] = []
    windows: list[Window] = []
    question_indices, lengths, is_truncated = [], [], []
    for batch in examples.stream(None).ragged_batch(_BATCH_SIZE):
        encoded = encode(batch["question"], batch["context"])
        questions = _batch_questions(examples, batch, encoded, passages)
        columns = (
            encoded.question_indices,
            encoded.passage_starts,
            encoded.passage_offsets,
            encoded.passage_lengths,
        )
        for owner, *numbers in zip(*(column.numpy().tolist() for column in columns)):
            question, passage = questions[owner]
            windows.append(Window(question, passage, *numbers))
        question_indices.append(tf.gather(batch["index"], encoded.question_indices).numpy())
        token_ids.append(encoded.token_ids)
        lengths.append(encoded.lengths.numpy())
        is_truncated.append(encoded.is_truncated.numpy())
    return _TokenizedSplit(
        token_ids=tf.concat(token_ids, axis=0),
        windows=windows,
        question_indices=np.concatenate(question_indices),
        lengths=np.concatenate(lengths),
        is_truncated=np.concatenate(is_truncated),
    )


def _batch_questions(
    examples: Examples,
    batch: Mapping[str, Any],
    encoded: Windows,
    passages: dict[str, Passage],
) -> list[tuple[Question, Passage]]:
    """Return the questions of a batch with their passages.

    Args:
      examples: The split.
      batch: A batch of `question_stream`.
      encoded: Its windows.
      passages: The passages of earlier batches by text, so that each is in memory once; those of
        this batch are added.
    """
    splits = encoded.char_starts.row_splits.numpy()
    char_starts = encoded.char_starts.flat_values.numpy()
    char_ends = encoded.char_ends.flat_values.numpy()
    contexts, question_texts = batch["context"].numpy(), batch["question"].numpy()
    answer_texts, answer_starts = batch["answers"].to_list(), batch["starts"].to_list()
    questions = []
    for row, index in enumerate(batch["index"].numpy()):
        context = contexts[row].decode()
        if context not in passages:
            tokens = slice(splits[row], splits[row + 1])
            # Copied: a view would keep the arrays of the whole batch in memory.
            passages[context] = Passage(
                context, char_starts[tokens].copy(), char_ends[tokens].copy()
            )
        passage = passages[context]
        answers = zip(answer_texts[row], answer_starts[row])
        question = Question(
            name=examples.ids[index],
            context=passage.text,
            question=question_texts[row].decode(),
            answers=tuple(Answer(text.decode(), start) for text, start in answers),
        )
        questions.append((question, passage))
    return questions


def _prepared(
    examples: Examples, split: _TokenizedSplit, encoder: TextEncoder, width: int
) -> Prepared:
    passage_starts = np.array([window.passage_start for window in split.windows], np.int32)
    passage_lengths = np.array([window.passage_length for window in split.windows], np.int32)
    spans = np.array([answer_token_span(window) for window in split.windows], np.int32)
    passages = np.stack([passage_starts, passage_lengths], axis=1)
    return prepare_tokens(
        _window_examples(examples, split),
        TokenFeatures(split.token_ids, tf.constant(passage_starts), encoder, width),
        digests=row_digests(split.token_ids, passage_starts),
        targets=SpanTargets(spans, passages, width),
        details=split.windows,
        parents=split.question_indices,
        facts={
            **length_facts(split.lengths, split.is_truncated, encoder.sequence_length),
            "windows": len(split.windows),
        },
    )


def _window_examples(examples: Examples, split: _TokenizedSplit) -> Examples:
    """Return the windows as examples, with ids such as "QUESTION#0"."""
    first_windows = np.searchsorted(split.question_indices, split.question_indices)
    numbers = np.arange(len(first_windows)) - first_windows
    questions: Sequence[Question] = [window.question for window in split.windows]
    return Examples(
        name=examples.name,
        ids=tuple(f"{question.name}#{number}" for question, number in zip(questions, numbers)),
        labels=examples.labels[split.question_indices],
        stream=functools.partial(question_stream, questions, np.arange(len(questions))),
        groups=None if examples.groups is None else examples.groups[split.question_indices],
    )
