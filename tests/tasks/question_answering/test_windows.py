"""Windows and their answers are those of BERT's run_squad.py, written out here in plain Python."""

import numpy as np
import pytest
import tensorflow as tf

from sft_keras import Backbone
from sft_keras.tasks.question_answering.decode import (
    count_windows,
    decode_answers,
    decode_spans,
    is_answered,
)
from sft_keras.tasks.question_answering.examples import Answer, Question
from sft_keras.tasks.question_answering.preprocess import Passage, Window, answer_token_span
from sft_keras.tasks.question_answering.windows import is_max_context, sliding_windows
from sft_keras.text.encoder import build_encoder

LENGTH, STRIDE, QUESTION = 16, 3, 5
CLS, SEP = 2, 3
PASSAGES = [
    "abcdefgh ijk lmnopqrs tu",
    "",
    "xyz",
    "abcdefgh ijk lmnopqrs tu",
    "\u00e9t\u00e9 \u4e2d a!",
]
QUESTIONS = ["ab?", "what is it", "", "longer than five", "q"]


def encoded(questions=QUESTIONS, contexts=PASSAGES, stride=STRIDE):
    encoder = build_encoder(Backbone(preset="tiny:bert"), LENGTH)
    found = sliding_windows(
        encoder,
        tf.constant(questions),
        tf.constant(contexts),
        doc_stride=stride,
        max_question_length=QUESTION,
    )
    return encoder, found


def spans_of_bert(tokens, room, stride):
    """The "doc_spans" of run_squad.py; a passage without tokens has one here, and none there."""
    found, start = [], 0
    while True:
        length = min(tokens - start, room)
        found.append((start, length))
        if start + length == tokens:
            return found
        start += min(length, stride)


def bert_is_max_context(spans, own, token):
    """`_check_is_max_context` of run_squad.py."""
    best_score, best = None, None
    for index, (start, length) in enumerate(spans):
        if not start <= token < start + length:
            continue
        score = min(token - start, start + length - 1 - token) + 0.01 * length
        if best_score is None or score > best_score:
            best_score, best = score, index
    return best == own


def test_windows_are_those_of_bert():
    encoder, found = encoded()
    rows = iter(range(len(found.question_indices)))
    for number, (question, context) in enumerate(zip(QUESTIONS, PASSAGES)):
        asked = encoder.pieces(tf.constant([question])).ids.numpy()[0].tolist()
        passage = encoder.pieces(tf.constant([context])).ids.numpy()[0].tolist()
        assert found.lengths[number] == len(asked) + len(passage) + 3
        assert found.is_truncated[number] == (len(asked) > QUESTION)
        head = [CLS, *asked[:QUESTION], SEP]
        for start, length in spans_of_bert(len(passage), LENGTH - len(head) - 1, STRIDE):
            row = next(rows)
            expected = [*head, *passage[start : start + length], SEP]
            assert found.token_ids[row].numpy().tolist() == expected
            assert len(expected) <= LENGTH
            numbers = (
                found.question_indices,
                found.passage_starts,
                found.passage_offsets,
                found.passage_lengths,
            )
            assert [int(each[row]) for each in numbers] == [number, len(head), start, length]
    assert next(rows, None) is None
    assert np.bincount(found.question_indices).max() >= 4


def test_tokens_know_their_characters():
    _, found = encoded()
    places = zip(found.char_starts[4].numpy(), found.char_ends[4].numpy())
    assert [PASSAGES[4][start:end] for start, end in places] == [
        *("\u00e9", "t", "\u00e9", "\u4e2d", "a", "!")
    ]


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 7])
def test_the_window_with_the_most_context_is_that_of_bert(stride):
    tokens, room = [23, 0, 7, 8, 9, 16], 8
    spans = [spans_of_bert(count, room, stride) for count in tokens]
    owners = [owner for owner, each in enumerate(spans) for _ in each]
    flat = [each for one in spans for each in one]
    offsets, counts = (tf.constant(each) for each in zip(*flat))
    found = is_max_context(tf.constant(owners), offsets, counts).to_list()
    for owner, each in enumerate(spans):
        for own, (start, length) in enumerate(each):
            expected = [bert_is_max_context(each, own, start + place) for place in range(length)]
            assert found.pop(0) == expected, (owner, own)


def bert_answer(logits, found, owner, longest):
    """The best span of a question and its null score, by trying every one."""
    rows = np.flatnonzero(found.question_indices == owner)
    spans = [(int(found.passage_offsets[row]), int(found.passage_lengths[row])) for row in rows]
    best, scores, null = None, [], np.inf
    for own, row in enumerate(rows):
        null = min(null, logits[row, 0, 0] + logits[row, 0, 1])
        first = int(found.passage_starts[row])
        start, length = spans[own]
        for begin in range(length):
            if not bert_is_max_context(spans, own, start + begin):
                continue
            for end in range(begin, min(length, begin + longest)):
                score = logits[row, first + begin, 0] + logits[row, first + end, 1]
                scores.append(score)
                if best is None or score > best[0]:
                    best = (score, start + begin, start + end)
    return best, null, np.exp([*scores, null]).sum()


@pytest.mark.parametrize("longest", [1, 2, 4, 40])
def test_the_best_answer_is_that_of_trying_all(longest):
    _, found = encoded()
    # Padding has the highest logits of all, and is not to be answered.
    logits = np.random.default_rng(longest).normal(0.0, 2.0, (len(found.question_indices), 20, 2))
    for row, (first, count) in enumerate(zip(found.passage_starts, found.passage_lengths)):
        logits[row, 1:first] = logits[row, first + count :] = 50.0
    logits = logits.astype(np.float32)
    spans = decode_spans(tf.constant(logits), found, longest)
    for number in range(len(QUESTIONS)):
        best, null, total = bert_answer(logits, found, number, longest)
        probabilities = spans.probabilities[number].numpy()
        assert probabilities[1] == pytest.approx(np.exp(null) / total, rel=1e-4)
        if best is None:
            assert (spans.starts[number], spans.ends[number]) == (-1, -1)
            assert spans.null_score_diffs[number] == np.inf and probabilities[0] == 0.0
            continue
        score, begin, end = best
        assert spans.starts[number] == found.char_starts[number][begin]
        assert spans.ends[number] == found.char_ends[number][end]
        assert float(spans.null_score_diffs[number]) == pytest.approx(null - score, abs=1e-4)
        assert probabilities[0] == pytest.approx(np.exp(score) / total, rel=1e-4)
    exists = spans.starts >= 0
    np.testing.assert_array_equal(is_answered(spans, None), exists)
    middle = float(np.median(spans.null_score_diffs[exists]))
    kept = is_answered(spans, middle).numpy()
    np.testing.assert_array_equal(kept, exists & (spans.null_score_diffs <= middle))
    assert 0 < kept.sum() < exists.numpy().sum()


def as_windows(found, questions=QUESTIONS, contexts=PASSAGES):
    passages = [
        Passage(context, starts.numpy(), ends.numpy())
        for context, starts, ends in zip(contexts, found.char_starts, found.char_ends)
    ]
    columns = (
        found.question_indices,
        found.passage_starts,
        found.passage_offsets,
        found.passage_lengths,
    )
    return [
        Window(
            Question(f"q{number}", contexts[number], questions[number], ()),
            passages[number],
            *numbers,
        )
        for number, *numbers in zip(*(column.numpy().tolist() for column in columns))
    ]


def test_a_split_is_answered_alike_in_parts(monkeypatch):
    from sft_keras.tasks.question_answering import decode as module

    _, found = encoded()
    logits = (
        np.random.default_rng(0)
        .normal(size=(len(found.question_indices), 16, 2))
        .astype(np.float32)
    )
    windows = as_windows(found)
    expected = decode_spans(tf.constant(logits), found, 4)
    for at_once in (1, 3, 1000):
        monkeypatch.setattr(module, "_WINDOWS_PER_CHUNK", at_once)
        answers = decode_answers(logits, windows, 4)
        assert [question.name for question in answers.questions] == ["q0", "q1", "q2", "q3", "q4"]
        for own, whole in zip(answers.spans, expected):
            np.testing.assert_allclose(own, whole, rtol=1e-5)
    texts = answers.texts(None)
    assert texts[1] == "" and all(texts[place] in PASSAGES[place] for place in range(5))
    assert all(texts[place] for place in (0, 2, 3, 4))
    assert answers.texts(float("-inf")) == [""] * 5
    chosen = answers.probabilities(float("-inf"))
    np.testing.assert_array_equal(chosen, expected.probabilities[:, 1])
    counts = np.bincount(found.question_indices)
    assert count_windows(windows, 2) == counts[:2].sum()
    assert count_windows(windows, 99) == len(windows)


def test_an_answer_is_placed_on_the_tokens_that_touch_it():
    context = "abc  def  "  # a token a letter
    starts = np.array([0, 1, 2, 5, 6, 7], np.int32)
    passage = Passage(context, starts, starts + 1)

    def places(start, end, offset=0, count=6):
        answers = (Answer(context[start:end], start),)
        return answer_token_span(
            Window(Question("q", context, "?", answers), passage, 4, offset, count)
        )

    assert places(0, 3) == (4, 6)
    assert places(2, 7) == (6, 8)
    assert places(1, 4) == (5, 6)  # ends in a blank
    assert places(3, 5) == (7, 7)  # nothing but blanks
    assert places(8, 10) == (9, 9)
    assert places(5, 8, offset=2, count=4) == (5, 7)
    assert places(5, 8, offset=2, count=3) == (0, 0)  # only a part of it is in the window
    assert places(0, 3, offset=1) == (0, 0)
    empty = Passage("", starts[:0], starts[:0])
    assert answer_token_span(Window(Question("q", "", "?", ()), empty, 4, 0, 0)) == (0, 0)
