"""Figures of answers to questions, and the most confident wrong ones."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sft_keras.evaluation.bootstrap import bootstrap_intervals
from sft_keras.tasks.examples import MAX_MISTAKES, MAX_UNCERTAIN, ReportExamples
from sft_keras.tasks.question_answering.examples import Question

if TYPE_CHECKING:
    from sft_keras.tasks.question_answering.decode import QuestionAnswers

_AROUND = 200  # characters of a passage
NO_ANSWER = "(no answer)"


def question_figures(
    answers: QuestionAnswers, no_answer_threshold: float | None, seed: int
) -> dict[str, Any]:
    """Returns the figures of a split as plain values.

    Args:
      answers: To its questions.
      no_answer_threshold: The largest margin with which an answer is given and not none; None
        where each question has one.
      seed: Of the bootstrap.

    Returns:
      "examples": how many questions; "exact_match" and "f1" as {"value", "low", "high"} with 95 %
      percentile bootstrap intervals over the questions (Efron & Tibshirani 1993, chapter 13); with
      a threshold also "answerable_f1" and "unanswerable_f1", the same over the questions of either
      kind (None where there are none), and "best_threshold": the threshold that would give the
      best F1 over all, as {"threshold", "f1"}.
    """
    texts = answers.texts(no_answer_threshold)
    right = [_right(question) for question in answers.questions]
    exact = np.array([exact_match(*each) for each in zip(texts, right)])
    overlap = np.array([f1(*each) for each in zip(texts, right)])
    figures = {
        "examples": len(texts),
        "exact_match": _estimate(exact, seed),
        "f1": _estimate(overlap, seed),
    }
    if no_answer_threshold is None:
        return figures
    is_answerable = np.array([bool(question.answers) for question in answers.questions])
    figures["answerable_f1"] = _estimate(overlap[is_answerable], seed)
    figures["unanswerable_f1"] = _estimate(overlap[~is_answerable], seed)
    figures["best_threshold"] = best_threshold(
        answers.spans.margins,
        np.array([f1(*each) for each in zip(answers.texts(float("inf")), right)]),
        np.array([f1("", each) for each in right]),
    )
    return figures


def best_threshold(
    margins: np.ndarray, answered: np.ndarray, unanswered: np.ndarray
) -> dict[str, float]:
    """Returns the threshold that gives the best mean, and that mean.

    As `evaluate-v2.0.py` finds it, but halfway to the next margin, and not at it. Of equals the
    one that answers least.

    Args:
      margins: float [n], an answer is given where the margin is at most the threshold; infinite
        where there can be none.
      answered: float [n], the figure of each question if an answer is given.
      unanswered: float [n], the figure if none is.
    """
    order = np.argsort(margins, kind="stable")
    finite = margins[order][np.isfinite(margins[order])].astype(np.float64)
    gains = (answered - unanswered)[order][: len(finite)]
    means = (unanswered.sum() + np.cumsum([0.0, *gains])) / len(margins)
    if not len(finite):
        return {"threshold": 0.0, "f1": float(means[0])}
    edges = np.concatenate([finite[:1] - 1.0, (finite[1:] + finite[:-1]) / 2, finite[-1:] + 1.0])
    # Equal margins cannot be told apart.
    can_be = np.concatenate([[True], finite[1:] > finite[:-1], [True]])
    best = int(np.argmax(np.where(can_be, means, -1.0)))
    return {"threshold": float(edges[best]), "f1": float(means[best])}


def answer_examples(answers: QuestionAnswers, no_answer_threshold: float | None) -> ReportExamples:
    """Returns the most probable of the wrong answers, and the least probable of all."""
    texts = answers.texts(no_answer_threshold)
    probabilities = answers.probabilities(no_answer_threshold)
    is_right = [
        bool(exact_match(text, _right(question)))
        for text, question in zip(texts, answers.questions, strict=True)
    ]

    def shown(index: int) -> dict[str, Any]:
        question, text = answers.questions[index], texts[index]
        place = int(answers.spans.starts[index]) if text else 0
        if not text and question.answers:
            place = question.answers[0].start
        return {
            "id": question.name,
            "text": f"{question.question}\n{_around(question.context, place)}",
            "true": " | ".join(dict.fromkeys(_right(question))) or NO_ANSWER,
            "predicted": text or NO_ANSWER,
            "right": is_right[index],
            "probability": float(probabilities[index]),
        }

    by_certainty = sorted(range(len(texts)), key=lambda index: probabilities[index])
    wrong = [index for index in reversed(by_certainty) if not is_right[index]]
    return ReportExamples(
        [shown(index) for index in wrong[:MAX_MISTAKES]],
        [shown(index) for index in by_certainty[:MAX_UNCERTAIN]],
    )


def _right(question: Question) -> list[str]:
    return [answer.text for answer in question.answers]


def _around(context: str, place: int) -> str:
    """Returns the passage around a character, with an ellipsis where something is left out."""
    first = max(0, min(place - _AROUND // 2, len(context) - _AROUND))
    last = first + _AROUND
    before, after = "… " if first else "", " …" if last < len(context) else ""
    return f"{before}{context[first:last].strip()}{after}"


def _estimate(values: Sequence[float] | np.ndarray, seed: int) -> dict[str, float | None]:
    """Returns the mean with its interval; None each where there are no values."""
    if not len(values):
        return dict.fromkeys(("value", "low", "high"))
    found = bootstrap_intervals(lambda rows: {"mean": values[rows].mean()}, len(values), seed)
    return {"value": float(np.mean(values)), **found["mean"]}


_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)


_PUNCTUATION = frozenset(string.punctuation)


def normalised(answer: str) -> str:
    """Returns an answer in lower case, without punctuation, articles and extra white space."""
    kept = "".join(letter for letter in answer.lower() if letter not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", kept).split())


def exact_match(answer: str, right: Sequence[str]) -> float:
    """Returns 1.0 if an answer is one of the right ones; "" is right where there is none."""
    return float(any(normalised(answer) == normalised(each) for each in _counted(right)))


def f1(answer: str, right: Sequence[str]) -> float:
    """Returns the overlap in words with that of the right answers which it is nearest to."""
    return max(_overlap(answer, each) for each in _counted(right))


def _counted(right: Sequence[str]) -> list[str]:
    """Returns the answers that are more than articles and punctuation, or "" if there are none."""
    return [each for each in right if normalised(each)] or [""]


def _overlap(answer: str, right: str) -> float:
    own, wanted = normalised(answer).split(), normalised(right).split()
    if not own or not wanted:
        return float(own == wanted)
    common = sum((Counter(own) & Counter(wanted)).values())
    if not common:
        return 0.0
    precision, recall = common / len(own), common / len(wanted)
    return 2 * precision * recall / (precision + recall)
