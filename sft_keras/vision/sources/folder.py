"""Class folders of image files: "folder:PATH"."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sft_keras.core.errors import DataError
from sft_keras.data.listing import Listing, parse_split_name, preview
from sft_keras.data.split_files import outside_faults
from sft_keras.data.streams import file_part

_LOG = logging.getLogger(__name__)

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def list_folder(path: str, outside: bool = False) -> Listing:
    """List class folders, or train, validation and test folders of class folders.

    The sorted names of the class folders are the classes; files in nested folders belong to them
    too. Hidden files are ignored, and so, with a warning, are files that are not images.

    Args:
      path: The folder; "~" is the home folder.
      outside: Whether symbolic links may lead out of it.

    Raises:
      DataError: If the folder does not exist or has no class folders.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(
            f"`data.source` must name an existing folder. Received: 'folder:{path}', "
            f"which is {root.absolute()}."
        )
    faults: list[str] = []
    split_folders = _split_folders(root, faults)
    class_folders = {split: _visible_folders(folder) for split, folder in split_folders.items()}
    class_names = tuple(
        sorted({folder.name for folders in class_folders.values() for folder in folders})
    )
    ignored: Counter[str] = Counter()
    if not class_names:
        count = sum(_is_image(file, ignored) for file in _visible_files(root))
        raise DataError(
            "`data.source` must name a folder with one subfolder of images per class, or with "
            f"train, val and test folders of such subfolders. Received: 'folder:{path}', which has "
            f"{count} images and no class folders."
        )
    parts = {}
    links: list[Path] = []
    for split, folders in class_folders.items():
        files: list[Path] = []
        labels: list[int] = []
        for folder in folders:
            images = [file for file in _visible_files(folder) if _is_image(file, ignored)]
            if not images:
                faults.append(
                    f"The class folder {_id(folder, root)!r} has no images "
                    f"({', '.join(EXTENSIONS)}). Add some, or remove the folder."
                )
            files += images
            links += [path for path in (folder, *images) if path.is_symlink()]
            labels += [class_names.index(folder.name)] * len(images)
        ids = [_id(file, root) for file in files]
        parts[split] = file_part(ids, [str(file) for file in files], np.array(labels, np.int64))
    links += [folder for folder in split_folders.values() if folder.is_symlink()]
    faults += [] if outside else outside_faults(links, root)
    if ignored:
        kinds = preview([f"{count} x {extension}" for extension, count in ignored.most_common()])
        _LOG.warning("Ignored files in %s without an image extension: %s.", root, kinds)
    return Listing(class_names, parts, tuple(faults))


def _split_folders(root: Path, faults: list[str]) -> dict[str, Path]:
    """Return the folder of each split; {"train": root} if there are only class folders."""
    # A class may be called "train" too, so only a folder of folders is a split.
    split_folders: dict[str, Path] = {}
    others = []
    for folder in _visible_folders(root):
        split = parse_split_name(folder.name)
        if split is None or not _visible_folders(folder):
            others.append(folder.name)
        elif split in split_folders:
            faults.append(
                f"Two folders are the {split!r} split: {split_folders[split].name!r} and "
                f"{folder.name!r}. Keep one of them."
            )
        else:
            split_folders[split] = folder
    if split_folders and others:
        names = ", ".join(folder.name for folder in split_folders.values())
        faults.append(
            f"Next to the split folders {names} there are others: {preview(others)}. A folder "
            "holds either splits or classes; move the others elsewhere."
        )
    return split_folders or {"train": root}


def _visible_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def _visible_files(folder: Path) -> Iterator[Path]:
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(base, name) for name in sorted(files) if not name.startswith("."))


def _is_image(file: Path, ignored: Counter[str]) -> bool:
    extension = file.suffix.lower()
    if extension not in EXTENSIONS:
        ignored[extension or file.name] += 1
    return extension in EXTENSIONS


def _id(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()
