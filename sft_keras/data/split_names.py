"""Words that name a split, as people write them in folders, files and columns. No TensorFlow."""

from __future__ import annotations

import dataclasses
import re

_ALIASES = {
    "train": ("train", "training", "trn"),
    "validation": (
        *("validation", "valid", "val", "validate"),
        *("dev", "development", "eval", "evaluation"),
    ),
    "test": ("test", "testing", "tst", "holdout"),
}
_SPLIT_OF = {alias: split for split, aliases in _ALIASES.items() for alias in aliases}
_SPLIT_OF |= {
    f"{alias}{noun}": split for alias, split in _SPLIT_OF.items() for noun in ("set", "data")
}
# Words beside the name of a split that no class is called.
# fmt: off
_GENERIC = frozenset((
    "all", "cropped", "data", "dataset", "datasets", "dir", "ds", "file", "files", "final",
    "folder", "full", "image", "images", "img", "imgs", "jpeg", "jpg", "labeled", "labelled",
    "my", "new", "original", "photo", "photos", "pic", "pics", "picture", "pictures", "png",
    "raw", "resized", "sample", "samples", "seg", "set", "sets", "split", "the",
))
# fmt: on
# An upper-case letter after a lower-case one begins a word, as in "trainImages".
_SEPARATORS = re.compile(r"[-_\s]")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclasses.dataclass(frozen=True)
class SplitName:
    """The split that a name stands for.

    Attributes:
      split: "train", "validation" or "test".
      is_certain: Whether the other words of the name, if any, say nothing about the contents:
        "train_images" is a split, "train_station" may be a class.
    """

    split: str
    is_certain: bool


def parse_split_name(word: str) -> str | None:
    """Return the split that a folder, column value or data set name stands for, or None.

    >>> parse_split_name("Val"), parse_split_name("dev"), parse_split_name("cats")
    ('validation', 'validation', None)
    """
    return _SPLIT_OF.get(_SEPARATORS.sub("", word.lower()))


def find_split_name(name: str) -> SplitName | None:
    """Return the split that a name with further words stands for; None for none or several.

    Words are separated by anything but letters, or by upper case.

    >>> find_split_name("training_set")
    SplitName(split='train', is_certain=True)
    >>> find_split_name("ISIC-test2017")
    SplitName(split='test', is_certain=False)
    >>> find_split_name("train_vs_test"), find_split_name("restaurant")
    (None, None)
    """
    whole = parse_split_name(name)
    if whole is not None:
        return SplitName(whole, is_certain=True)
    words = [word.lower() for word in _WORD.findall(name)]
    splits = {_SPLIT_OF[word] for word in words if word in _SPLIT_OF}
    if len(splits) != 1:
        return None
    others = {word for word in words if word not in _SPLIT_OF}
    return SplitName(splits.pop(), is_certain=others <= _GENERIC)


def is_plain_split_name(name: str) -> bool:
    """Return whether a name is one of `known_split_names`, which needs no explanation.

    >>> is_plain_split_name("Val"), is_plain_split_name("training_set")
    (True, False)
    """
    return any(name.lower() in aliases for aliases in _ALIASES.values())


def known_split_names() -> str:
    """Return the accepted split names, comma-separated, for messages."""
    return ", ".join(alias for aliases in _ALIASES.values() for alias in aliases)
