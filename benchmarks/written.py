"""The files under results/: what a benchmark measured, by which command, when, and on what."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results"


def read_results(name: str) -> dict[str, Any]:
    """Returns what results/NAME.json holds; nothing if it is not there."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def write_results(
    name: str,
    command: str,
    figures: Mapping[str, Any],
    environment: Mapping[str, Any] | None = None,
    file: Path | None = None,
) -> None:
    """Writes results/NAME.json, or `file`: the figures and where they come from.

    Args:
      name: Of the benchmark.
      command: That measures the same again.
      figures: Plain values.
      environment: As `sft_keras.runs.environment.environment` gives it; None to ask it.
      file: To write to, where it is not under results/.
    """
    if environment is None:
        from sft_keras.runs.environment import environment as ask  # TensorFlow

        environment = ask()
    made = {
        **figures,
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "environment": dict(environment),
    }
    file = file or RESULTS / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {file}", flush=True)
