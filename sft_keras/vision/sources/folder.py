"""Class folders of image files: "folder:PATH"."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sft_keras.core.errors import DataError
from sft_keras.data.listing import Listing, preview
from sft_keras.data.split_files import outside_faults
from sft_keras.data.split_names import find_split_name, is_plain_split_name
from sft_keras.data.streams import file_part
from sft_keras.vision.conversion import START, image_format, in_stream

_LOG = logging.getLogger(__name__)

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".pgm", ".ppm", ".pbm", ".pnm"),
)
_NOT_DATA = ("__MACOSX",)  # folders that archives add


def list_folder(path: str, outside: bool = False) -> Listing:
    """List class folders, or train, validation and test folders of class folders.

    The sorted names of the class folders are the classes; files in nested folders belong to them
    too. Names such as "training_set" are splits, and folders without class folders next to splits
    are not read. Hidden files are ignored; files that are not images are counted in the facts.

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
    notes: list[str] = []
    base = _unwrapped(root, notes, root)
    split_folders = _split_folders(base, faults, notes)
    class_folders = {split: _visible_folders(folder) for split, folder in split_folders.items()}
    class_names = tuple(
        sorted({folder.name for folders in class_folders.values() for folder in folders})
    )
    ignored: Counter[str] = Counter()
    if not class_names:
        raise DataError(
            "`data.source` must name a folder with one subfolder of images per class, or with "
            f"train, val and test folders of such subfolders. Received: 'folder:{path}', which has "
            f"{_count_images(root)} images and no class folders."
        )
    faults += _ambiguity_faults(path, base, class_folders)
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
        parts[split] = file_part(
            ids, [str(file) for file in files], np.array(labels, np.int64), in_stream
        )
    links += [folder for folder in split_folders.values() if folder.is_symlink()]
    faults += [] if outside else outside_faults(links, root)
    return Listing(class_names, parts, tuple(faults), _facts(root, notes, ignored))


def _facts(root: Path, notes: Sequence[str], ignored: Counter[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {"notes": list(notes)} if notes else {}
    if ignored:
        kinds = preview([f"{count} x {kind}" for kind, count in ignored.most_common()])
        _LOG.warning("Ignored files in %s that are not images: %s.", root, kinds)
        facts["dropped"] = {f"not an image ({kind})": n for kind, n in ignored.most_common()}
    return facts


def _split_folders(root: Path, faults: list[str], notes: list[str]) -> dict[str, Path]:
    """Return the folder of each split; {"train": root} if there are only class folders."""
    # A class may be called "train" too, so only a folder of folders is a split.
    split_folders: dict[str, Path] = {}
    others, unlabelled = [], []
    for folder in _visible_folders(root):
        inner = _unwrapped(folder, notes, root)
        name = find_split_name(folder.name)
        if not _visible_folders(inner):
            unlabelled.append(folder)
        elif name is None or not name.is_certain:
            others.append(folder.name)
        elif name.split in split_folders:
            faults.append(
                f"Two folders are the {name.split!r} split: {split_folders[name.split].name!r} and "
                f"{folder.name!r}. Keep one of them."
            )
        else:
            split_folders[name.split] = inner
            if not is_plain_split_name(folder.name):
                notes.append(f"{folder.name!r} was read as the split {name.split}.")
    if split_folders and others:
        names = ", ".join(folder.name for folder in split_folders.values())
        faults.append(
            f"Next to the split folders {names} there are others: {preview(others)}. A folder "
            "holds either splits or classes; move the others elsewhere."
        )
    if split_folders and unlabelled:
        counts = [f"{folder.name!r} ({_count_images(folder)})" for folder in unlabelled]
        notes.append(f"Folders without class folders were not read (images): {preview(counts)}.")
    return split_folders or {"train": root}


def _unwrapped(folder: Path, notes: list[str], root: Path) -> Path:
    """Return the folder, or the only one in it if that one holds the folders."""
    inner = _visible_folders(folder)
    if len(inner) != 1 or any(
        path.is_file() and _is_image(path, Counter()) for path in folder.iterdir()
    ):
        return folder
    is_repeated = inner[0].name == folder.name
    if not is_repeated and len(_visible_folders(inner[0])) < 2:
        return folder
    if not is_repeated and (found := find_split_name(inner[0].name)) and found.is_certain:
        return folder
    notes.append(f"The images were found one level deeper, in {_id(inner[0], root)!r}.")
    return inner[0]


def _ambiguity_faults(
    path: str, base: Path, class_folders: Mapping[str, Sequence[Path]]
) -> list[str]:
    """Return a sentence if class folders may be something else: splits, or several data sets."""
    if len(class_folders) > 1 or class_folders.get("train", [base])[0].parent != base:
        return []
    folders = class_folders["train"]
    names = [folder.name for folder in folders]
    found = [find_split_name(name) for name in names]
    if len(names) > 1 and all(found):
        return [
            f"{preview(names)} look like splits, but have no class folders: put the images of "
            "each class into a folder of its own, or list the images in a table (csv:FILE)."
        ]
    inner = [tuple(folder.name for folder in _visible_folders(folder)) for folder in folders]
    if len(inner) > 1 and len(inner[0]) > 1 and len(set(inner)) == 1:
        return [
            f"The folders {preview(names)} all hold the same folders: {preview(inner[0])}. If "
            f"these are the classes, name one folder, such as 'folder:{Path(path) / names[0]}'; if "
            "not, move the images up, or list them in a table (csv:FILE)."
        ]
    return []


def _visible_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and _is_visible(path.name))


def _visible_files(folder: Path) -> Iterator[Path]:
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_visible(name))
        yield from (Path(base, name) for name in sorted(files) if _is_visible(name))


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_DATA


def _is_image(file: Path, ignored: Counter[str]) -> bool:
    extension = file.suffix.lower()
    if extension in EXTENSIONS or _has_image_content(file):
        return True
    ignored[extension or "no ending"] += 1
    return False


def _count_images(folder: Path) -> int:
    return sum(_is_image(file, Counter()) for file in _visible_files(folder))


def _has_image_content(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return image_format(opened.read(START)) is not None
    except OSError:
        return False


def _id(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()
