"""Splits questions and passages into windows of tokens once, before training."""

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

_BATCH = 256
_NOWHERE = (0, 0)  # [CLS]


class Passage(NamedTuple):
    """A passage, and where its tokens start and end in it: int32 [passage tokens] each."""

    text: str
    starts: np.ndarray
    ends: np.ndarray


class Window(NamedTuple):
    """A question with a stretch of its passage; see `Windows` for the numbers."""

    question: Question
    passage: Passage
    first: int
    offset: int
    count: int


@dataclasses.dataclass(frozen=True)
class _Split:
    """The windows of a split.

    Attributes:
      ids: int32 [w, (tokens)].
      windows: [w].
      parents: int64 [w], the question of each.
      lengths: int32 [questions], see `Windows`.
      is_cut: bool [questions].
    """

    ids: tf.RaggedTensor
    windows: list[Window]
    parents: np.ndarray
    lengths: np.ndarray
    is_cut: np.ndarray


def prepare_questions(
    examples_by_split: Mapping[str, Examples],
    encoder: TextEncoder,
    encode: Callable[[tf.Tensor, tf.Tensor], Windows],
    progress: Callable[[int, int], None],
) -> dict[str, Prepared]:
    """Returns what is batched from, per split: windows, with a `Window` each for its details.

    Args:
      examples_by_split: The splits; see `question_stream` for the elements of their streams.
      encoder: Of the backbone.
      encode: With it, from questions and contexts, string [n] each, to windows.
      progress: Called with (done, total) questions over all splits.
    """
    texts = tf.TensorSpec([None], tf.string)
    traced = tf.function(encode, input_signature=[texts, texts], autograph=False)
    found = read_splits(examples_by_split, lambda examples: _read(examples, traced), progress)
    places = longest_row((split.ids for split in found.values()), encoder.sequence_length)
    return {
        name: _prepared(examples_by_split[name], split, encoder, places)
        for name, split in found.items()
    }


def _read(examples: Examples, encode: Callable[[tf.Tensor, tf.Tensor], Windows]) -> _Split:
    passages: dict[str, Passage] = {}
    ids: list[tf.RaggedTensor] = []
    windows: list[Window] = []
    parents, lengths, is_cut = [], [], []
    for batch in examples.stream(None).ragged_batch(_BATCH):
        found = encode(batch["question"], batch["context"])
        questions = _questions(examples, batch, found, passages)
        for owner, *numbers in zip(
            *(each.numpy().tolist() for each in (found.owners, found.firsts)),
            *(each.numpy().tolist() for each in (found.offsets, found.counts)),
        ):
            question, passage = questions[owner]
            windows.append(Window(question, passage, *numbers))
        parents.append(tf.gather(batch["index"], found.owners).numpy())
        ids.append(found.ids)
        lengths.append(found.lengths.numpy())
        is_cut.append(found.is_cut.numpy())
    return _Split(
        ids=tf.concat(ids, axis=0),
        windows=windows,
        parents=np.concatenate(parents),
        lengths=np.concatenate(lengths),
        is_cut=np.concatenate(is_cut),
    )


def _questions(
    examples: Examples,
    batch: Mapping[str, Any],
    found: Windows,
    passages: dict[str, Passage],
) -> list[tuple[Question, Passage]]:
    """Returns the questions of a batch; `passages` are those of earlier ones, to be held once."""
    made = []
    places = (found.starts.row_splits, found.starts.flat_values, found.ends.flat_values)
    splits, starts, ends = (each.numpy() for each in places)
    contexts, asked = batch["context"].numpy(), batch["question"].numpy()
    answers, answer_starts = batch["answers"].to_list(), batch["starts"].to_list()
    for row, index in enumerate(batch["index"].numpy()):
        text = contexts[row].decode()
        if text not in passages:
            own = slice(splits[row], splits[row + 1])
            # Copies: else those of the whole batch would stay in memory.
            passages[text] = Passage(text, starts[own].copy(), ends[own].copy())
        passage = passages[text]
        found_answers = zip(answers[row], answer_starts[row])
        question = Question(
            name=examples.ids[index],
            context=passage.text,
            question=asked[row].decode(),
            answers=tuple(Answer(text.decode(), start) for text, start in found_answers),
        )
        made.append((question, passage))
    return made


def _prepared(examples: Examples, split: _Split, encoder: TextEncoder, places: int) -> Prepared:
    firsts = np.array([window.first for window in split.windows], np.int32)
    counts = np.array([window.count for window in split.windows], np.int32)
    spans = np.array([answer_places(window) for window in split.windows], np.int32)
    return prepare_tokens(
        _examples(examples, split),
        TokenFeatures(split.ids, tf.constant(firsts), encoder, places),
        digests=row_digests(split.ids, firsts),
        targets=SpanTargets(spans, np.stack([firsts, counts], axis=1), places),
        details=split.windows,
        parents=split.parents,
        facts={
            **length_facts(split.lengths, split.is_cut, encoder.sequence_length),
            "windows": len(split.windows),
        },
    )


def answer_places(window: Window) -> tuple[int, int]:
    """Returns the places in the row of the first answer's first token and its last one.

    (0, 0), which is [CLS], where the window does not hold all of it, or there is none.
    """
    tokens = len(window.passage.starts)
    if not window.question.answers or not tokens:
        return _NOWHERE
    answer = window.question.answers[0]
    end = answer.start + len(answer.text)
    # All tokens that share a character with it; of what has no token the nearest.
    first = min(int(np.searchsorted(window.passage.ends, answer.start, side="right")), tokens - 1)
    last = max(int(np.searchsorted(window.passage.starts, end, side="left")) - 1, first)
    if first < window.offset or last >= window.offset + window.count:
        return _NOWHERE
    return window.first + first - window.offset, window.first + last - window.offset


def _examples(examples: Examples, split: _Split) -> Examples:
    """Returns windows as examples, called e.g. "QUESTION#0"."""
    begins = np.searchsorted(split.parents, split.parents)  # a question's first window
    numbers = np.arange(len(begins)) - begins
    questions: Sequence[Question] = [window.question for window in split.windows]
    return Examples(
        name=examples.name,
        ids=tuple(f"{each.name}#{number}" for each, number in zip(questions, numbers)),
        labels=examples.labels[split.parents],
        stream=functools.partial(question_stream, questions, np.arange(len(questions))),
        groups=None if examples.groups is None else examples.groups[split.parents],
    )
