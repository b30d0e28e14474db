"""List, verify and prune the feature cache on disk.

    python -m sft_keras.cache                     # list what is stored, and where
    python -m sft_keras.cache --verify            # read everything; exit status 1 if damaged
    python -m sft_keras.cache --prune=10GB        # delete least recently used shards, down to 10 GB
    python -m sft_keras.cache --prune=0           # delete everything

Deleting is safe: a run computes what it does not find, and a run that is reading a deleted shard
continues (on Windows, a shard that is being read cannot be deleted). A run that finds a damaged
shard deletes it and computes it again.
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
    "folder", None, "Cache folder. Default: $SFT_KERAS_CACHE, or else ~/.cache/sft_keras."
)
_LIST = flags.DEFINE_bool("list", False, "List the stored shards. This is the default.")
_VERIFY = flags.DEFINE_bool("verify", False, "Read every shard and report the damaged ones.")
_PRUNE = flags.DEFINE_string(
    "prune",
    None,
    "SIZE: delete the least recently used shards until at most SIZE is left. Units: B, kB, MB, GB "
    "and TB (1 kB is 1000 bytes); 0 deletes everything. Damaged shards are deleted as well; shards "
    "that a run is writing are kept.",
)


def main(argv: Sequence[str]) -> None:
    """List, verify or prune the cache; exit with 1 if damage was found or deleting failed."""
    if len(argv) > 1:
        raise RecipeError(f"Flags begin with --. Received: {' '.join(argv[1:])!r}. See --help.")
    if sum((_LIST.value, _VERIFY.value, _PRUNE.value is not None)) > 1:
        raise RecipeError("--list, --verify and --prune are mutually exclusive. Pass one of them.")
    problems: list[str] = []
    store = DiskStore(_folder(), CallbackReporter(problems.append))
    is_intact = True
    if _VERIFY.value:
        is_intact = _verify(store)
    elif _PRUNE.value is not None:
        for line in prune(store, parse_size(_PRUNE.value)):
            print(line, flush=True)
    else:
        for line in table(store):
            print(line)
    for line in problems:
        print(line, file=sys.stderr)
    if problems or not is_intact:
        sys.exit(1)


def _folder() -> Path:
    """Return the cache folder selected by the flags; it need not exist.

    Raises:
      RecipeError: If the path is not a folder, or cannot be read.
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
            f"The cache must be a readable folder. Received: {received!r} "
            f"({getattr(error, 'strerror', None) or error}). Pass another --folder."
        ) from error
    return folder


def _verify(store: DiskStore) -> bool:
    """Print the state of every shard; return whether all are intact."""
    damaged, count, size = 0, 0, 0
    for entry, fault in verified(store):
        count, size = count + 1, size + entry.size
        damaged += bool(fault)
        print(f"{'FAULTY' if fault else 'ok':6}  {entry.what}  {entry.path}", flush=True)
        if fault:
            print(f"        {fault}", flush=True)
    print(f"{damaged} of {count} shards are faulty; {as_size(size)} in {store.folder}")
    if damaged:
        print("A run that needs a damaged shard deletes it and computes it again.")
    return not damaged


if __name__ == "__main__":
    run_command(main)
