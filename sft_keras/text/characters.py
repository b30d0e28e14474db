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
    kinds = np.zeros(LIMIT, np.uint8)
    normal: list[int] = []
    splits = np.zeros(LIMIT + 1, np.int32)
    for code in range(LIMIT):
        character = chr(code)
        category = unicodedata.category(character)
        kinds[code] = _kind(code, category)
        if kinds[code] == SPACE or (not category.startswith("C") and code != 0xFFFD):
            normal += _normal(character, category) if lowercase else [code]
        splits[code + 1] = len(normal)
    return Characters(kinds, np.array(normal, np.int32), splits)


def _kind(code: int, category: str) -> int:
    if chr(code) in "\t\n\r" or category in ("Zs", "Zl", "Zp"):
        return SPACE
    is_ideograph = any(first <= code <= last for first, last in _IDEOGRAPHS)
    if is_ideograph or code in _ASCII_PUNCTUATION or category.startswith("P"):
        return SINGLE
    return LETTER


def _normal(character: str, category: str) -> list[int]:
    is_hangul = 0xAC00 <= ord(character) <= 0xD7A3  # whose parts are not in the data base
    if category in ("Lo", "Nd") and not is_hangul and not unicodedata.decomposition(character):
        return [ord(character)]  # most characters, without the long way
    parts = unicodedata.normalize("NFD", character)
    kept = "".join(part for part in parts if unicodedata.category(part) != "Mn")
    return [ord(part) for part in kept.lower() if unicodedata.category(part) != "Mn"]
