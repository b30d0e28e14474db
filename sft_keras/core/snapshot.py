"""Arrays and plain values in a folder of their own: written whole or not at all. No TensorFlow.

arrays.safetensors   the arrays; a format that holds numbers alone and can run nothing
facts.json           the plain values, and checksums of both
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sft_keras.core.files import checksum_of, file_checksum, sync_file, sync_folder, write_atomic

PART = ".part-"
"""How the names of half-written snapshots begin."""

_FORMAT = 2
_ARRAYS, _FACTS = "arrays.safetensors", "facts.json"


class DamagedSnapshotError(Exception):
    """A snapshot is not what was written; its message says what is wrong."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What was, at one moment.

    Attributes:
      facts: Plain values, as JSON has them.
      arrays: By name.
    """

    facts: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)


def plain(value: Any) -> Any:
    """Returns values as JSON has them: lists for sequences and arrays, names for keys."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    return value


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Writes a snapshot as the folder `path`, which must not exist.

    Raises:
      OSError: If the disk is full, or the like; nothing is left behind.
    """
    part = path.with_name(f"{PART}{path.name}-{secrets.token_hex(4)}")
    try:
        part.mkdir(parents=True)
        # Contiguous, or the file would have them in another order than it says.
        arrays = {name: np.asarray(each, order="C") for name, each in snapshot.arrays.items()}
        try:
            save_file(arrays, part / _ARRAYS)
        except SafetensorError as error:  # which it says of a full disk too
            raise OSError(f"{_ARRAYS} could not be written: {error}") from error
        sync_file(part / _ARRAYS)
        text = {
            "format": _FORMAT,
            "facts": plain(snapshot.facts),
            "checksums": {_ARRAYS: file_checksum(part / _ARRAYS)},
        }
        write_atomic(part / _FACTS, json.dumps({**text, "checksum": checksum_of(text)}))
        sync_folder(part)
        part.rename(path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def read_snapshot(path: Path) -> Snapshot:
    """Returns the snapshot that is the folder `path`, checked.

    Raises:
      DamagedSnapshotError: If it is not what was written, or cannot be read.
    """
    try:
        text = json.loads((path / _FACTS).read_text(encoding="utf-8"))
        checksum = text.pop("checksum")
        if checksum != checksum_of(text):
            raise DamagedSnapshotError(f"{_FACTS} was changed")
        if text["format"] != _FORMAT:
            raise DamagedSnapshotError(f"format {text['format']} is not {_FORMAT}")
        if file_checksum(path / _ARRAYS) != text["checksums"][_ARRAYS]:
            raise DamagedSnapshotError(f"the checksum of {_ARRAYS} does not fit")
        return Snapshot(text["facts"], load_file(path / _ARRAYS))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedSnapshotError(f"it cannot be read: {error!r}") from error
