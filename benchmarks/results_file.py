"""Read and write results/*.json: measurements with their command, date and environment."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results"


def read_results(name: str) -> dict[str, Any]:
    """Return the contents of results/NAME.json, or {} if the file does not exist."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def write_results(
    name: str,
    command: str,
    results: Mapping[str, Any],
    environment: Mapping[str, Any] | None = None,
    file: Path | None = None,
) -> None:
    """Write the results of a benchmark and their provenance to results/NAME.json or `file`.

    Args:
      name: Name of the benchmark.
      command: Command that repeats the measurement.
      results: The measurements, JSON-serializable.
      environment: The output of `sft_keras.runs.environment.environment`; None to call it here.
      file: Output path; None for results/NAME.json.
    """
    if environment is None:
        from sft_keras.runs.environment import environment as read_environment  # needs TensorFlow

        environment = read_environment()
    contents = {
        **results,
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "environment": dict(environment),
    }
    file = file or RESULTS / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {file}", flush=True)
