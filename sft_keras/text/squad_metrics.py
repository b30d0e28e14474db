"""Exact match and F1 of answers, as SQuAD's official script counts them. No TensorFlow.

Source: evaluate-v2.0.py of Rajpurkar et al. 2018, arXiv:1806.03822.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

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
