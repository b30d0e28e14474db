"""Kills runs at random moments, resumes them, and compares what comes out bit for bit.

    python benchmarks/kills.py [--kills=20] [--seed=0]

Writes results/kills.json. For each kill a run of its own is started as a user would, killed with
SIGKILL after a time drawn evenly from what an unbroken run takes, and resumed to its end. Its
weights, its figures and its splits must be those of the unbroken run. Exit status 1 if they are
not.
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
from written import write_results

_KILLS = flags.DEFINE_integer("kills", 20, "How many, of images and texts in turn.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
_RESULTS = flags.DEFINE_string(
    "results", str(Path(__file__).parent.parent / "results" / "kills.json"), "Where to write."
)

OFTEN = "--set=checkpoints.every_steps=3"
RUNS = {
    "images": (
        "--recipe=quickstart",
        "--set=data.source=synthetic:4",
        "--set=backbone.image_size=32x32",
        "--set=stages.head.epochs=3",
        "--set=stages.top.epochs=3",
        "--set=stages.top.ema=0.9",
        OFTEN,
    ),
    "texts": ("--recipe=bert_sentiment", "--smoke", OFTEN),
}


def main(_: list[str]) -> None:
    """Runs, kills, resumes and compares."""
    draw = np.random.default_rng(_SEED.value)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        unbroken = {}
        for name, arguments in RUNS.items():
            began = time.perf_counter()
            path = Path(folder, name)
            _finished(_started(path, arguments))
            unbroken[name] = (time.perf_counter() - began, _outcome(path))
            print(f"{name}  unbroken: {unbroken[name][0]:.1f} s", flush=True)
        for number in range(_KILLS.value):
            name = list(RUNS)[number % len(RUNS)]
            seconds, expected = unbroken[name]
            moment = float(draw.uniform(0.0, seconds))
            row = _killed_and_resumed(Path(folder, f"{name}-{number}"), name, moment, expected)
            rows.append(row)
            print(json.dumps(row), flush=True)
    survived = sum(row["same_weights"] and row["same_figures"] for row in rows)
    print(f"{survived} of {len(rows)} kills survived with the same bits")
    figures = {
        "unbroken_seconds": {name: seconds for name, (seconds, _) in unbroken.items()},
        "kills": rows,
        "survived": survived,
    }
    write_results("kills", "python benchmarks/kills.py", figures, file=Path(_RESULTS.value))
    if survived < len(rows):
        sys.exit(1)


def _killed_and_resumed(
    path: Path, name: str, moment: float, expected: dict[str, Any]
) -> dict[str, Any]:
    """Starts a run, kills it at a moment, and runs the same command again until it is done."""
    process = _started(path, RUNS[name])
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    log = path / "log.txt"
    lines = log.read_text().splitlines() if log.is_file() else []
    _finished(_started(path, (*RUNS[name], "--resume=auto")))
    found = _outcome(path)
    return {
        "run": name,
        "killed_after_seconds": round(moment, 2),
        "last_line_before": lines[-1].partition("  python")[0][:80]
        if lines
        else "(it had said nothing)",
        "same_weights": found["weights"] == expected["weights"],
        "same_figures": found["figures"] == expected["figures"],
    }


def _started(path: Path, arguments: tuple[str, ...]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sft_keras.run", *arguments, f"--run_dir={path}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finished(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"A run ended with status {process.returncode}:\n{errors[-3000:]}")


def _outcome(path: Path) -> dict[str, Any]:
    """Returns what must be the same of a run: its weights, its figures and its splits."""

    found = hashlib.sha256()
    with ZipFile(path / "model.keras") as archive, archive.open("model.weights.h5") as file:

        def add(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found.update(name.encode() + np.ascontiguousarray(item[()]).tobytes())

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
    figures = {"test": report["test"], "stages": stages, "mistakes": report["mistakes"]}
    splits = json.loads((path / "splits.json").read_text())
    if (path / "checkpoints").exists():
        raise RuntimeError(f"{path} still has its checkpoints.")
    return {"weights": found.hexdigest(), "figures": {**figures, "splits": splits}}


if __name__ == "__main__":
    app.run(main)
