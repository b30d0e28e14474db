"""Exact match and F1 of answers, as SQuAD's official script counts them. No TensorFlow.

Source: evaluate-v2.0.py of Rajpurkar et al. 2018, arXiv:1806.03822.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

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


def squad_metrics(
    answers: Mapping[str, str], right: Mapping[str, Sequence[str]]
) -> dict[str, float | int]:
    """Returns exact match and F1, in 0..1, over all questions and over those of either kind.

    Args:
      answers: By the questions' names; "" for "the passage does not say".
      right: By the same names; no answers for the same.
    """
    with_answer = [name for name in right if _counted(right[name]) != [""]]
    groups = {
        "": list(right),
        "answerable_": with_answer,
        "unanswerable_": [name for name in right if name not in set(with_answer)],
    }
    found: dict[str, float | int] = {"questions": len(right)}
    for prefix, names in groups.items():
        if names:
            exact = [exact_match(answers[name], right[name]) for name in names]
            overlap = [f1(answers[name], right[name]) for name in names]
            found[f"{prefix}exact_match"] = sum(exact) / len(names)
            found[f"{prefix}f1"] = sum(overlap) / len(names)
    return found


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
