"""Whole runs in processes of their own, killed at random moments: see `benchmarks/kills.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "kills.py"


@pytest.mark.slow
def test_killed_at_any_moment_a_run_ends_with_the_same_bits(tmp_path):
    results = tmp_path / "kills.json"
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), "--kills=1", "--seed=5", f"--results={results}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(results.read_text())
    assert found["survived"] == len(found["kills"]) == 1
