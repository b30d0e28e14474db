"""Snapshots: a folder of arrays and plain values, written atomically. No TensorFlow.

arrays.safetensors   the arrays; the format holds only numbers and cannot execute code
facts.json           the plain values, and checksums of both files
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
"""Prefix of the names of incomplete snapshots."""

_FORMAT = 2
_ARRAYS, _FACTS = "arrays.safetensors", "facts.json"


class DamagedSnapshotError(Exception):
    """A snapshot is incomplete or was changed; the message says how."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The state of a computation at one moment.

    Attributes:
      facts: Plain values that JSON can represent.
      arrays: {name: array}.
    """

    facts: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)


def plain(value: Any) -> Any:
    """Return values as JSON represents them: lists for sequences and arrays, strings for keys."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    return value


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot to a new folder.

    Args:
      path: The folder, which must not exist.
      snapshot: The snapshot.

    Raises:
      OSError: If it cannot be written, e.g. because the disk is full; no files remain.
    """
    part = path.with_name(f"{PART}{path.name}-{secrets.token_hex(4)}")
    try:
        part.mkdir(parents=True)
        # The file stores memory in C order, whatever the strides of the array.
        arrays = {name: np.asarray(array, order="C") for name, array in snapshot.arrays.items()}
        try:
            save_file(arrays, part / _ARRAYS)
        except SafetensorError as error:  # also raised for a full disk
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
    """Read a snapshot from a folder and verify its checksums.

    Raises:
      DamagedSnapshotError: If it cannot be read or was changed.
    """
    try:
        text = json.loads((path / _FACTS).read_text(encoding="utf-8"))
        checksum = text.pop("checksum")
        if checksum != checksum_of(text):
            raise DamagedSnapshotError(f"{_FACTS} was changed")
        if text["format"] != _FORMAT:
            raise DamagedSnapshotError(f"its format is {text['format']}, not {_FORMAT}")
        if file_checksum(path / _ARRAYS) != text["checksums"][_ARRAYS]:
            raise DamagedSnapshotError(f"the checksum of {_ARRAYS} does not match")
        return Snapshot(text["facts"], load_file(path / _ARRAYS))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedSnapshotError(f"it cannot be read: {error!r}") from error
