"""Kill runs at random moments, resume them, and compare their results bit for bit.

    python benchmarks/kills.py [--kills=20] [--seed=0]

Writes results/kills.json. Each run is started from the command line, killed with SIGKILL at a time
drawn uniformly from the duration of an uninterrupted run, and resumed to its end. Its weights,
metrics and splits must equal those of the uninterrupted run. The exit status is 1 if any differ.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import h5py
import numpy as np
from absl import app, flags
from results_file import write_results

_KILLS = flags.DEFINE_integer(
    "kills", 20, "Number of kills, alternating between image and text runs."
)
_SEED = flags.DEFINE_integer("seed", 0, "Random seed of the moments.")
_RESULTS = flags.DEFINE_string(
    "results", str(Path(__file__).parent.parent / "results" / "kills.json"), "Output file."
)

FREQUENT_CHECKPOINTS = "--set=checkpoints.every_steps=3"
RUNS = {
    "images": (
        "--recipe=quickstart",
        "--set=data.source=synthetic:4",
        "--set=backbone.image_size=32x32",
        "--set=stages.head.epochs=3",
        "--set=stages.top.epochs=3",
        "--set=stages.top.ema=0.9",
        FREQUENT_CHECKPOINTS,
    ),
    "texts": ("--recipe=bert_sentiment", "--smoke", FREQUENT_CHECKPOINTS),
}


def main(_: list[str]) -> None:
    """Run, kill, resume and compare; exit with status 1 on a difference."""
    rng = np.random.default_rng(_SEED.value)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        unbroken = {}
        for name, arguments in RUNS.items():
            start = time.perf_counter()
            path = Path(folder, name)
            _wait(_start(path, arguments))
            unbroken[name] = (time.perf_counter() - start, _outcome(path))
            print(f"{name}  uninterrupted: {unbroken[name][0]:.1f} s", flush=True)
        for number in range(_KILLS.value):
            name = list(RUNS)[number % len(RUNS)]
            seconds, expected = unbroken[name]
            moment = float(rng.uniform(0.0, seconds))
            row = _kill_and_resume(Path(folder, f"{name}-{number}"), name, moment, expected)
            rows.append(row)
            print(json.dumps(row), flush=True)
    survived = sum(row["same_weights"] and row["same_figures"] for row in rows)
    print(f"{survived} of {len(rows)} killed runs resumed to an identical result")
    results = {
        "unbroken_seconds": {name: seconds for name, (seconds, _) in unbroken.items()},
        "kills": rows,
        "survived": survived,
    }
    write_results("kills", "python benchmarks/kills.py", results, file=Path(_RESULTS.value))
    if survived < len(rows):
        sys.exit(1)


def _kill_and_resume(
    path: Path, name: str, moment: float, expected: dict[str, Any]
) -> dict[str, Any]:
    """Start a run, kill it after `moment` seconds, resume it, and compare it with `expected`."""
    process = _start(path, RUNS[name])
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    log = path / "log.txt"
    lines = log.read_text().splitlines() if log.is_file() else []
    _wait(_start(path, (*RUNS[name], "--resume=auto")))
    outcome = _outcome(path)
    return {
        "run": name,
        "killed_after_seconds": round(moment, 2),
        "last_line_before": lines[-1].partition("  python")[0][:80] if lines else "(none yet)",
        "same_weights": outcome["weights"] == expected["weights"],
        "same_figures": outcome["figures"] == expected["figures"],
    }


def _start(path: Path, arguments: tuple[str, ...]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sft_keras.run", *arguments, f"--run_dir={path}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"A run failed with exit status {process.returncode}:\n{errors[-3000:]}")


def _outcome(path: Path) -> dict[str, Any]:
    """Return what must be identical: a digest of the weights, the metrics and the splits."""
    weights_digest = hashlib.sha256()
    with ZipFile(path / "model.keras") as archive, archive.open("model.weights.h5") as file:

        def add(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                weights_digest.update(name.encode() + np.ascontiguousarray(item[()]).tobytes())

        with h5py.File(file) as weights:
            weights.visititems(add)
    report = json.loads((path / "report.json").read_text())
    stages = [
        {
            key: value
            for key, value in stage.items()
            if key not in ("seconds", "frozen_blocks", "frozen_pass")
        }
        for stage in report["stages"]
    ]
    metrics = {"test": report["test"], "stages": stages, "mistakes": report["mistakes"]}
    splits = json.loads((path / "splits.json").read_text())
    if (path / "checkpoints").exists():
        raise RuntimeError(f"{path} still has checkpoints after the run finished.")
    return {"weights": weights_digest.hexdigest(), "figures": {**metrics, "splits": splits}}


if __name__ == "__main__":
    app.run(main)
