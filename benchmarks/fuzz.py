"""Files that a program makes up, read until the time is over, by every reader of the package.

    python benchmarks/fuzz.py [--seconds=60]

Writes results/fuzz.json: for each reader how many files it read, refused with a message and crashed
at. The files are those of tests/test_fuzz_readers.py, drawn anew each time.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from absl import app, flags
from hypothesis import HealthCheck, Phase, given, settings

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests"))

from fuzzing import READERS, Reader  # noqa: E402  (only now is the folder known)
from written import write_results  # noqa: E402

_SECONDS = flags.DEFINE_integer("seconds", 60, "How long each reader is tried.", lower_bound=1)

_AT_ONCE = 200  # examples of one search


class _OverError(Exception):
    """The time is over."""


def main(_: list[str]) -> None:
    """Tries every reader."""
    found = {}
    for name, reader in READERS.items():
        found[name] = tried(reader, _SECONDS.value)
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    command = f"python benchmarks/fuzz.py --seconds={_SECONDS.value}"
    write_results("fuzz", command, {"readers": found})


def tried(reader: Reader, seconds: float) -> dict[str, Any]:
    """Reads files for some seconds; what crashes is printed."""
    counts: Counter[str] = Counter()
    start = time.monotonic()

    @settings(
        max_examples=_AT_ONCE,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(content=reader.content)
    def read(content: bytes) -> None:
        if time.monotonic() - start > seconds:
            raise _OverError
        counts["cases"] += 1
        try:
            counts["accepted" if reader.read(content) else "refused"] += 1
        except Exception:
            counts["crashes"] += 1
            print(f"{content!r}\n{traceback.format_exc()}", file=sys.stderr, flush=True)

    with warnings.catch_warnings(), contextlib.suppress(_OverError):
        warnings.simplefilter("ignore")
        while True:
            read()
    figures = {name: counts[name] for name in ("cases", "refused", "accepted", "crashes")}
    return {**figures, "seconds": round(time.monotonic() - start, 1)}


if __name__ == "__main__":
    app.run(main)
