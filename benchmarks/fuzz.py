"""Fuzz every reader of user files with generated files for a fixed time.

    python benchmarks/fuzz.py [--seconds=60]

Writes results/fuzz.json: how many files each reader accepted, rejected with a message, and crashed
on. The files come from the same generators as in tests/data/test_fuzz_readers.py, with a new seed
in every run.
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
sys.path.append(str(ROOT / "tests" / "support"))

from fuzzing import READERS, Reader  # noqa: E402  (needs the path above)
from results_file import write_results  # noqa: E402

_SECONDS = flags.DEFINE_integer("seconds", 60, "Seconds of fuzzing per reader.", lower_bound=1)

_MAX_EXAMPLES = 200  # per call of the hypothesis engine


class _TimeoutError(Exception):
    """The time for a reader is up."""


def main(_: list[str]) -> None:
    """Fuzz every reader and write the results."""
    counts = {}
    for name, reader in READERS.items():
        counts[name] = fuzz(reader, _SECONDS.value)
        print(f"{name}: {json.dumps(counts[name])}", flush=True)
    command = f"python benchmarks/fuzz.py --seconds={_SECONDS.value}"
    write_results("fuzz", command, {"readers": counts})


def fuzz(reader: Reader, seconds: float) -> dict[str, Any]:
    """Fuzz a reader for some seconds and print the files that crash it."""
    counts: Counter[str] = Counter()
    start = time.monotonic()

    @settings(
        max_examples=_MAX_EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(content=reader.content)
    def read(content: bytes) -> None:
        if time.monotonic() - start > seconds:
            raise _TimeoutError
        counts["cases"] += 1
        try:
            counts["accepted" if reader.read(content) else "refused"] += 1
        except Exception:
            counts["crashes"] += 1
            print(f"{content!r}\n{traceback.format_exc()}", file=sys.stderr, flush=True)

    with warnings.catch_warnings(), contextlib.suppress(_TimeoutError):
        warnings.simplefilter("ignore")
        while True:
            read()
    results = {name: counts[name] for name in ("cases", "refused", "accepted", "crashes")}
    return {**results, "seconds": round(time.monotonic() - start, 1)}


if __name__ == "__main__":
    app.run(main)
