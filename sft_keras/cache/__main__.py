"""Shows, checks and clears what runs have stored of their frozen blocks' outputs.

    python -m sft_keras.cache                     # what is stored, and where
    python -m sft_keras.cache --verify            # reads all of it; exit status 1 if any is damaged
    python -m sft_keras.cache --prune=10GB        # deletes what was used longest ago, down to 10 GB
    python -m sft_keras.cache --prune=0           # deletes all

Deleting is safe: a run computes what it does not find, and a run that is reading goes on (what is
being read cannot be deleted on Windows). A run that finds something damaged deletes it and computes
it again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from sft_keras.cache.disk import DiskStore, store_folder
from sft_keras.cache.listing import as_size, parse_size, prune, table, verified
from sft_keras.cli.command import run_command
from sft_keras.core.errors import RecipeError
from sft_keras.core.reporter import CallbackReporter

_FOLDER = flags.DEFINE_string(
    "folder", None, "Where it lies; by default $SFT_KERAS_CACHE, or else ~/.cache/sft_keras."
)
_LIST = flags.DEFINE_bool("list", False, "Show what is stored. That is also done without a flag.")
_VERIFY = flags.DEFINE_bool("verify", False, "Read everything and name what is damaged.")
_PRUNE = flags.DEFINE_string(
    "prune",
    None,
    "SIZE: delete what was used longest ago until at most so much is left. Units are B, kB, MB, "
    "GB and TB (1 kB is 1000 bytes); 0 deletes all. What is damaged goes too; what a run is "
    "writing stays.",
)


def main(argv: Sequence[str]) -> None:
    """Does what the flags ask for; exits with 1 if something is damaged or could not be deleted."""
    if len(argv) > 1:
        raise RecipeError(f"Flags begin with --. Received: {' '.join(argv[1:])!r}. See --help.")
    if sum((_LIST.value, _VERIFY.value, _PRUNE.value is not None)) > 1:
        raise RecipeError("--list, --verify and --prune exclude each other. Pass one of them.")
    complaints: list[str] = []
    store = DiskStore(_folder(), CallbackReporter(complaints.append))
    all_is_well = True
    if _VERIFY.value:
        all_is_well = _verify(store)
    elif _PRUNE.value is not None:
        for line in prune(store, parse_size(_PRUNE.value)):
            print(line, flush=True)
    else:
        for line in table(store):
            print(line)
    for line in complaints:
        print(line, file=sys.stderr)
    if complaints or not all_is_well:
        sys.exit(1)


def _folder() -> Path:
    """Returns the folder that the flags ask for.

    Raises:
      RecipeError: If it is none, or cannot be read; that it is not there yet is no error.
    """
    if _FOLDER.value == "":
        raise RecipeError("--folder must be the path of a folder. Received: ''.")
    try:
        folder = store_folder() if _FOLDER.value is None else Path(_FOLDER.value).expanduser()
        os.scandir(folder).close()
    except FileNotFoundError:
        return folder
    except (OSError, RuntimeError) as error:
        received = _FOLDER.value or str(folder)
        raise RecipeError(
            f"The cache must be a folder that can be read. Received: {received!r} "
            f"({getattr(error, 'strerror', None) or error}). Pass another --folder."
        ) from error
    return folder


def _verify(store: DiskStore) -> bool:
    """Prints what is in order and what is not; returns whether all is."""
    faulty, done, size = 0, 0, 0
    for entry, fault in verified(store):
        done, size = done + 1, size + entry.size
        faulty += bool(fault)
        print(f"{'FAULTY' if fault else 'in order':8}  {entry.what}  {entry.path}", flush=True)
        if fault:
            print(f"          {fault}", flush=True)
    print(f"{faulty} of {done} shards are faulty; {as_size(size)} in {store.folder}")
    if faulty:
        print("A run that wants one that is damaged deletes it and computes it again.")
    return not faulty


if __name__ == "__main__":
    run_command(main)
