"""Exact match and F1 as SQuAD's official script computes them, and report examples.

Source: `evaluate-v2.0.py` of Rajpurkar et al. 2018, arXiv:1806.03822.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sft_keras.evaluation.bootstrap import bootstrap_intervals, wilson_interval
from sft_keras.tasks.examples import MAX_MISTAKES, MAX_UNCERTAIN, ReportExamples
from sft_keras.tasks.question_answering.examples import Question

if TYPE_CHECKING:
    from sft_keras.tasks.question_answering.decode import PredictedAnswers

NO_ANSWER = "(no answer)"

_EXCERPT_LENGTH = 200  # characters of a passage
_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = frozenset(string.punctuation)


def question_answering_metrics(
    answers: PredictedAnswers, no_answer_threshold: float | None, seed: int
) -> dict[str, Any]:
    """Return the metrics of a split as plain values.

    Args:
      answers: The answers to its questions.
      no_answer_threshold: The largest null score difference at which an answer is given; None if
        every question has one.
      seed: Seed of the bootstrap.

    Returns:
      "examples", the number of questions; "exact_match" and "f1" as {"value", "low", "high"} with
      the 95 % intervals of `sft_keras.evaluation.bootstrap` over questions. With
      a threshold also "answerable_f1" and "unanswerable_f1", F1 over the questions with and without
      an answer (None where there are none), and "best_threshold", see `best_threshold`.
    """
    texts = answers.texts(no_answer_threshold)
    references = [_reference_texts(question) for question in answers.questions]
    exact_scores = np.array([exact_match(*pair) for pair in zip(texts, references)])
    f1_scores = np.array([f1(*pair) for pair in zip(texts, references)])
    metrics: dict[str, Any] = {
        "examples": len(texts),
        "exact_match": {
            "value": float(exact_scores.mean()),
            **wilson_interval(float(exact_scores.mean()), len(texts)),
        },
        "f1": _mean_with_interval(f1_scores, seed),
    }
    if no_answer_threshold is None:
        return metrics
    is_answerable = np.array([bool(question.answers) for question in answers.questions])
    metrics["answerable_f1"] = _mean_with_interval(f1_scores[is_answerable], seed)
    metrics["unanswerable_f1"] = _mean_with_interval(f1_scores[~is_answerable], seed)
    always_answered = answers.texts(float("inf"))
    metrics["best_threshold"] = best_threshold(
        answers.spans.null_score_diffs,
        np.array([f1(*pair) for pair in zip(always_answered, references)]),
        np.array([f1("", reference_texts) for reference_texts in references]),
    )
    return metrics


def best_threshold(
    null_score_diffs: np.ndarray, answered_scores: np.ndarray, unanswered_scores: np.ndarray
) -> dict[str, float]:
    """Return the no-answer threshold with the best mean score, and that score.

    As in `evaluate-v2.0.py`, but halfway between two differences instead of at one of them. On ties
    the threshold that answers the fewest questions.

    Args:
      null_score_diffs: float [n]; a question is answered if its difference is at most the
        threshold. Infinite where no answer is possible.
      answered_scores: float [n], the score of each question if it is answered.
      unanswered_scores: float [n], the score if it is not.

    Returns:
      {"threshold", "f1"}.
    """
    order = np.argsort(null_score_diffs, kind="stable")
    ordered = null_score_diffs[order]
    finite = ordered[np.isfinite(ordered)].astype(np.float64)
    gains = (answered_scores - unanswered_scores)[order][: len(finite)]
    means = (unanswered_scores.sum() + np.cumsum([0.0, *gains])) / len(null_score_diffs)
    if not len(finite):
        return {"threshold": 0.0, "f1": float(means[0])}
    thresholds = np.concatenate(
        [finite[:1] - 1.0, (finite[1:] + finite[:-1]) / 2, finite[-1:] + 1.0]
    )
    # No threshold separates equal differences.
    is_separating = np.concatenate([[True], finite[1:] > finite[:-1], [True]])
    best = int(np.argmax(np.where(is_separating, means, -1.0)))
    return {"threshold": float(thresholds[best]), "f1": float(means[best])}


def exact_match(answer: str, references: Sequence[str]) -> float:
    """Return 1.0 if the answer equals a reference after normalization, else 0.0.

    Without references, "" is the correct answer.
    """
    normalized = normalize_answer(answer)
    return float(any(normalized == normalize_answer(text) for text in _scorable(references)))


def f1(answer: str, references: Sequence[str]) -> float:
    """Return the highest F1 over words between the answer and a reference, from 0 to 1."""
    return max(_word_f1(answer, reference) for reference in _scorable(references))


def normalize_answer(answer: str) -> str:
    """Lower-case an answer and remove punctuation, articles and extra white space."""
    text = "".join(character for character in answer.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def answer_examples(answers: PredictedAnswers, no_answer_threshold: float | None) -> ReportExamples:
    """Return the most confident wrong answers, and the least certain ones of all."""
    texts = answers.texts(no_answer_threshold)
    probabilities = answers.probabilities(no_answer_threshold)
    is_correct = [
        bool(exact_match(text, _reference_texts(question)))
        for text, question in zip(texts, answers.questions, strict=True)
    ]

    def row(index: int) -> dict[str, Any]:
        question, text = answers.questions[index], texts[index]
        position = int(answers.spans.starts[index]) if text else 0
        if not text and question.answers:
            position = question.answers[0].start
        return {
            "id": question.name,
            "text": f"{question.question}\n{_excerpt(question.context, position)}",
            "true": " | ".join(dict.fromkeys(_reference_texts(question))) or NO_ANSWER,
            "predicted": text or NO_ANSWER,
            "right": is_correct[index],
            "probability": float(probabilities[index]),
        }

    by_certainty = sorted(range(len(texts)), key=lambda index: probabilities[index])
    wrong = [index for index in reversed(by_certainty) if not is_correct[index]]
    return ReportExamples(
        [row(index) for index in wrong[:MAX_MISTAKES]],
        [row(index) for index in by_certainty[:MAX_UNCERTAIN]],
    )


def _reference_texts(question: Question) -> list[str]:
    return [answer.text for answer in question.answers]


def _scorable(references: Sequence[str]) -> list[str]:
    """Return the references that normalization leaves something of, or "" if there are none."""
    return [reference for reference in references if normalize_answer(reference)] or [""]


def _word_f1(answer: str, reference: str) -> float:
    predicted, expected = normalize_answer(answer).split(), normalize_answer(reference).split()
    if not predicted or not expected:
        return float(predicted == expected)
    common = sum((Counter(predicted) & Counter(expected)).values())
    if not common:
        return 0.0
    precision, recall = common / len(predicted), common / len(expected)
    return 2 * precision * recall / (precision + recall)


def _mean_with_interval(scores: np.ndarray, seed: int) -> dict[str, float | None]:
    """Return the mean with its interval; all None if there are no scores."""
    if not len(scores):
        return dict.fromkeys(("value", "low", "high"))
    intervals = bootstrap_intervals(lambda rows: {"mean": scores[rows].mean()}, len(scores), seed)
    return {"value": float(np.mean(scores)), **intervals["mean"]}


def _excerpt(context: str, position: int) -> str:
    """Return the passage around a character, with an ellipsis where it is shortened."""
    start = max(0, min(position - _EXCERPT_LENGTH // 2, len(context) - _EXCERPT_LENGTH))
    end = start + _EXCERPT_LENGTH
    before, after = "… " if start else "", " …" if end < len(context) else ""
    return f"{before}{context[start:end].strip()}{after}"
