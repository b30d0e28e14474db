"""What BERT's word splitting does with each character, as tables. No TensorFlow.

Source: Devlin et al. 2019, arXiv:1810.04805, and its `tokenization.py` (BasicTokenizer); where that
and Hugging Face's `tokenizers` differ, as the latter has it, which made most vocabularies in use.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import NamedTuple

import numpy as np

LETTER, SPACE, SINGLE = 0, 1, 2
"""Kinds of characters: part of a word, between words, or a word by itself."""

LIMIT = 0x30000
"""Characters from here on are private, marks or very rare signs, and are left out."""

_IDEOGRAPHS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
_REPLACEMENT = 0xFFFD  # stands for what is no UTF-8
_ASCII_PUNCTUATION = frozenset(range(33, 48)) | {*range(58, 65), *range(91, 97), *range(123, 127)}


class Characters(NamedTuple):
    """Tables by code point, below `LIMIT`.

    Attributes:
      kinds: uint8 [LIMIT], `LETTER`, `SPACE` or `SINGLE`.
      normal: int32 [m], what characters become, one after the other.
      splits: int32 [LIMIT + 1]: character c becomes normal[splits[c] : splits[c + 1]], which is
        nothing for control characters.
    """

    kinds: np.ndarray
    normal: np.ndarray
    splits: np.ndarray


@functools.cache
def characters(lowercase: bool) -> Characters:
    """Returns the tables; with `lowercase` letters lose their accents too."""
    every = [chr(code) for code in range(LIMIT)]
    categories = [unicodedata.category(character) for character in every]
    kinds = _kinds(np.array(categories))
    changed = _without_case_and_accents(every, categories) if lowercase else every
    is_control = np.char.startswith(categories, "C") & (kinds != SPACE)
    is_control[_REPLACEMENT] = True
    kept = ["" if left_out else each for left_out, each in zip(is_control, changed)]
    splits = np.cumsum([0, *map(len, kept)], dtype=np.int32)
    normal = np.array(list(map(ord, "".join(kept))), np.int32)
    return Characters(kinds, normal, splits)


def _kinds(categories: np.ndarray) -> np.ndarray:
    kinds = np.full(LIMIT, LETTER, np.uint8)
    kinds[np.char.startswith(categories, "P")] = SINGLE
    kinds[list(_ASCII_PUNCTUATION)] = SINGLE
    for first, last in _IDEOGRAPHS:
        kinds[first : last + 1] = SINGLE
    kinds[np.isin(categories, ("Zs", "Zl", "Zp"))] = SPACE
    kinds[[ord(character) for character in "\t\n\r"]] = SPACE
    return kinds


def _without_case_and_accents(every: list[str], categories: list[str]) -> list[str]:
    """Returns what each character becomes, which may be nothing or several."""
    marks = dict.fromkeys(code for code, each in enumerate(categories) if each == "Mn")
    # All at once, which takes a tenth of the time. NUL keeps them apart: it combines with nothing,
    # and beside it a letter is at no word's end, where a sigma would be another.
    joined = unicodedata.normalize("NFD", "\0".join(every[1:])).translate(marks)
    return ["", *joined.lower().translate(marks).split("\0")]
