"""Class folders of image files: "folder:PATH"."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging

from sft_keras.core.errors import DataError
from sft_keras.data.listing import Listing, parse_split_name, preview
from sft_keras.data.split_files import outside_faults
from sft_keras.data.streams import file_part

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def list_folder(path: str, outside: bool = False) -> Listing:
    """Lists class folders, or train, validation and test folders of class folders.

    The names of the class folders are the classes, sorted; files further down belong to them
    too. Hidden files are left out, and so, with a warning, are those that are not images.

    Args:
      path: The folder; "~" is the home folder.
      outside: Whether symbolic links may lead out of it.

    Raises:
      DataError: If the folder is not there or holds no class folders.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(
            f"`data.source` must name a folder that exists. Received: 'folder:{path}', "
            f"which is {root.absolute()}."
        )
    faults: list[str] = []
    split_folders = _split_folders(root, faults)
    class_folders = {split: _visible_folders(folder) for split, folder in split_folders.items()}
    class_names = tuple(
        sorted({each.name for folders in class_folders.values() for each in folders})
    )
    ignored: Counter[str] = Counter()
    if not class_names:
        images = sum(_is_image(file, ignored) for file in _visible_files(root))
        raise DataError(
            "`data.source` must name a folder with a folder of images for each class, or with "
            f"train, val and test folders of such folders. Received: 'folder:{path}', which holds "
            f"{images} images and no class folders."
        )
    parts = {}
    links: list[Path] = []
    for split, folders in class_folders.items():
        files: list[Path] = []
        labels: list[int] = []
        for folder in folders:
            found = [each for each in _visible_files(folder) if _is_image(each, ignored)]
            if not found:
                faults.append(
                    f"The class folder {_id(folder, root)!r} has no image "
                    f"({', '.join(ENDINGS)}). Add some, or remove the folder."
                )
            files += found
            links += [each for each in (folder, *found) if each.is_symlink()]
            labels += [class_names.index(folder.name)] * len(found)
        ids = [_id(file, root) for file in files]
        parts[split] = file_part(ids, [str(file) for file in files], np.array(labels, np.int64))
    links += [folder for folder in split_folders.values() if folder.is_symlink()]
    faults += [] if outside else outside_faults(links, root)
    if ignored:
        kinds = preview([f"{count} x {ending}" for ending, count in ignored.most_common()])
        logging.warning("Files in %s that are not images by their ending: %s.", root, kinds)
    return Listing(class_names, parts, tuple(faults))


def _split_folders(root: Path, faults: list[str]) -> dict[str, Path]:
    """Returns the folder of each split; {"train": root} if there are class folders only."""
    # A class may be called "train" too: only a folder of folders is a split.
    found: dict[str, Path] = {}
    others = []
    for folder in _visible_folders(root):
        split = parse_split_name(folder.name)
        if split is None or not _visible_folders(folder):
            others.append(folder.name)
        elif split in found:
            faults.append(
                f"Two folders are the {split!r} split: {found[split].name!r} and {folder.name!r}. "
                "Keep one of them."
            )
        else:
            found[split] = folder
    if found and others:
        faults.append(
            f"Beside the split folders {', '.join(each.name for each in found.values())} there are "
            f"others: {preview(others)}. A folder holds either splits or classes; move them away."
        )
    return found or {"train": root}


def _visible_folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] != ".")


def _visible_files(folder: Path) -> Iterator[Path]:
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(base, name) for name in sorted(files) if not name.startswith("."))


def _is_image(file: Path, ignored: Counter[str]) -> bool:
    ending = file.suffix.lower()
    if ending not in ENDINGS:
        ignored[ending or file.name] += 1
    return ending in ENDINGS


def _id(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()
