"""Text files in one folder per class: "folder:PATH", the layout of IMDB's reviews."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sft_keras.core.errors import DataError
from sft_keras.data.encodings import read_text
from sft_keras.data.example_faults import ExampleFaults
from sft_keras.data.listing import preview
from sft_keras.data.split_files import outside_faults
from sft_keras.data.split_names import find_split_name
from sft_keras.recipe.data import Data
from sft_keras.text.cleaning import TextRow

ENDINGS = (".txt", ".text", "")
_UNLABELLED = ("unsup", "unsupervised", "unlabeled", "unlabelled")
_IGNORED = ("__MACOSX", "__pycache__")


def folder_rows(data: Data, faults: ExampleFaults, labelled: bool) -> dict[str, list[TextRow]]:
    """Return the texts in class folders, or in train and test folders of class folders.

    The names of the class folders are the labels; files in nested folders belong to them too. The
    id of a text is its path.

    Args:
      data: The recipe's data section.
      faults: Receives files that cannot be decoded, and notes on folders that are not read.
      labelled: Whether texts must have a class; otherwise all files are read.

    Raises:
      DataError: If the folder does not exist or has no class folders.
    """
    if not isinstance(data.source, str):
        raise TypeError(f"The source of a folder must be a string. Received: {data.source!r}.")
    top = Path(data.source.partition(":")[2]).expanduser()
    if not top.is_dir():
        raise DataError(
            f"`data.source` must name an existing folder. Received: {data.source!r}, "
            f"which is {top.absolute()}."
        )
    root = _unwrapped(top, faults)
    split_folders = _split_folders(root, faults)
    ignored: Counter[str] = Counter()
    rows_by_split: dict[str, list[TextRow]] = {}
    for split, folder in split_folders.items():
        class_folders = _class_folders(folder, root, faults) if labelled else [folder]
        if not class_folders and split != "train":
            faults.notes.append(f"{folder.name}/ has no class folders, so it was dropped.")
            continue
        rows_by_split[split] = [
            row
            for class_folder in class_folders
            for file in _text_files(class_folder, root, data, ignored)
            for row in _row(file, top, class_folder.name if labelled else "", data, faults)
        ]
    if not any(rows_by_split.values()) and not faults.ids:
        raise DataError(
            "`data.source` must name a folder with one subfolder of .txt files per class, or with "
            f"train and test folders of such subfolders. Received: {data.source!r}, in which "
            f"there are none: {preview([path.name for path in sorted(root.iterdir())])}."
        )
    if ignored:
        kinds = preview([f"{count} x {ending}" for ending, count in ignored.most_common()])
        faults.notes.append(f"Files that are not texts were not read: {kinds}.")
    return rows_by_split


def _unwrapped(folder: Path, faults: ExampleFaults) -> Path:
    """Return the folder, or the only one in it that holds folders of files."""
    inner = _folders(folder)
    if len(inner) == 1 and _folders(inner[0]) and not _names_a_split(inner[0]):
        faults.notes.append(f"The texts were found one level deeper, in {inner[0].name}/.")
        return inner[0]
    return folder


def _names_a_split(folder: Path) -> bool:
    name = find_split_name(folder.name)
    return name is not None and name.is_certain


def _split_folders(root: Path, faults: ExampleFaults) -> dict[str, Path]:
    """Return the folder of each split; {"train": root} if there are only class folders."""
    folders = _folders(root)
    names = {folder: find_split_name(folder.name) for folder in folders}
    all_named = len(folders) > 1 and all(names.values())
    splits: dict[str, Path] = {}
    others = []
    for folder, name in names.items():
        is_split = name is not None and (name.is_certain or all_named)
        if name is None or not is_split or not any(folder.iterdir()):
            others.append(folder.name)
        elif name.split in splits:
            raise DataError(
                f"{root} must have one folder per split. Received for {name.split}: "
                f"{splits[name.split].name}, {folder.name}. Join them, or move one elsewhere."
            )
        else:
            splits[name.split] = folder
    if not splits or not _folders(splits.get("train", root)):
        return {"train": root}  # a class may be called "test", too
    if others:
        faults.notes.append(f"Folders beside the splits were not read: {preview(others)}.")
    return splits


def _class_folders(folder: Path, root: Path, faults: ExampleFaults) -> list[Path]:
    folders = _folders(folder)
    unlabelled = [path for path in folders if path.name.lower() in _UNLABELLED]
    if unlabelled:
        names = ", ".join(f"{path.relative_to(root).as_posix()}/" for path in unlabelled)
        faults.notes.append(f"Texts without a label were not read: {names}.")
    return [path for path in folders if path not in unlabelled]


def _folders(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and path.name[0] != "." and path.name not in _IGNORED
    )


def _text_files(folder: Path, root: Path, data: Data, ignored: Counter[str]) -> Iterator[Path]:
    """Yield the text files in a folder and below.

    Raises:
      DataError: If a link leads out of the source's folder and `data.outside` is not set.
    """
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in _IGNORED)
        for name in sorted(files):
            file = Path(base, name)
            if name[0] == ".":
                continue
            if file.suffix.lower() not in ENDINGS:
                ignored[file.suffix.lower()] += 1
                continue
            links = [path for path in (folder, file) if path.is_symlink()]
            outside = [] if data.outside else outside_faults(links, root)
            if outside:
                raise DataError(outside[0])
            yield file


def _row(file: Path, top: Path, label: str, data: Data, faults: ExampleFaults) -> Iterator[TextRow]:
    """Yield the text of a file, or nothing and report it if it cannot be decoded."""
    name = file.relative_to(top).as_posix()
    try:
        text = read_text(file, data.encoding)
    except DataError as error:
        faults.add("that cannot be decoded", name, str(error).removeprefix(f"{file} "))
    else:
        yield TextRow(name, (text,), label)
