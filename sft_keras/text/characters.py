"""Character tables for BERT's word splitting. Does not import TensorFlow.

Source: Devlin et al. 2019, arXiv:1810.04805, and its `tokenization.py` (BasicTokenizer). Where it
and Hugging Face's `tokenizers` differ, the tables follow the latter, which most vocabularies in use
were built with.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import NamedTuple

import numpy as np

LETTER, SPACE, SINGLE = 0, 1, 2
"""Kinds of characters: part of a word, white space between words, or a word of its own."""

LIMIT = 0x30000
"""Code points from here on are private, marks or very rare characters, and are ignored."""

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
_REPLACEMENT = 0xFFFD  # decoded from invalid UTF-8
_ASCII_PUNCTUATION = frozenset(range(33, 48)) | {*range(58, 65), *range(91, 97), *range(123, 127)}


class Characters(NamedTuple):
    """Tables by code point, below `LIMIT`.

    Attributes:
      kinds: uint8 [LIMIT], `LETTER`, `SPACE` or `SINGLE`.
      normal: int32 [m], the normalized characters of all code points, concatenated.
      splits: int32 [LIMIT + 1]: character c is normalized to normal[splits[c] : splits[c + 1]],
        which is empty for control characters.
    """

    kinds: np.ndarray
    normal: np.ndarray
    splits: np.ndarray


@functools.cache
def characters(lowercase: bool) -> Characters:
    """Return the tables; `lowercase` also removes accents."""
    all_characters = [chr(code) for code in range(LIMIT)]
    categories = [unicodedata.category(character) for character in all_characters]
    kinds = _kinds(np.array(categories))
    normalized = all_characters
    if lowercase:
        normalized = _without_case_and_accents(all_characters, categories)
    is_control = np.char.startswith(categories, "C") & (kinds != SPACE)
    is_control[_REPLACEMENT] = True
    kept = ["" if ignored else text for ignored, text in zip(is_control, normalized)]
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


def _without_case_and_accents(all_characters: list[str], categories: list[str]) -> list[str]:
    """Return each character in lower case without accents: none, one or several characters."""
    marks = dict.fromkeys(code for code, category in enumerate(categories) if category == "Mn")
    # In one string, which takes a tenth of the time. The separator is NUL because it combines with
    # nothing and does not end a word, where a sigma would have another lower case.
    joined = unicodedata.normalize("NFD", "\0".join(all_characters[1:])).translate(marks)
    return ["", *joined.lower().translate(marks).split("\0")]
