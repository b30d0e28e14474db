"""Runs an exported file in a process of its own, and measures its latency there."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sft_keras.core.errors import ExportError
from sft_keras.evaluation.inference import concatenate_padded
from sft_keras.export import runtime_probe
from sft_keras.export.formats import Format
from sft_keras.export.isolated_process import run_isolated
from sft_keras.export.probe_inputs import TIMED_BATCH_SIZES


@dataclasses.dataclass(frozen=True)
class SavedModelCall:
    """How to call a SavedModel.

    Attributes:
      signature: The signature to call.
      output: The output to return.
      needs: Modules to import before the model is loaded.
    """

    signature: str
    output: str
    needs: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """The outputs and latencies of an exported file.

    Attributes:
      outputs: float32 [n, ...], in the order of the examples.
      milliseconds: The median latency per call, by batch size.
      takes: The file's own description of its inputs, {name: text}.
      gives: The file's own description of its outputs, {name: text}.
    """

    outputs: np.ndarray
    milliseconds: dict[int, float]
    takes: dict[str, str]
    gives: dict[str, str]


def probe(
    target: Format, path: Path, inputs: Path, threads: int, call: SavedModelCall | None = None
) -> ProbeResult:
    """Load and run an exported file in a fresh process that imports only its runtime.

    Args:
      target: The format of the file.
      path: The file, or the folder of a SavedModel.
      inputs: A folder of batches, see `runtime_probe`.
      threads: The number of threads that the runtime may use within an operation.
      call: How to call a SavedModel; None for other formats.

    Raises:
      ExportError: The file cannot be loaded or run, or an output is not finite.
    """
    with tempfile.TemporaryDirectory() as scratch:
        outputs = Path(scratch, "outputs.npz")
        plan = {
            "runtime": target.runtime,
            "model": str(path),
            "inputs": str(inputs),
            "outputs": str(outputs),
            "threads": threads,
            **(dataclasses.asdict(call) if call else {}),
        }
        subject = f"{path}, with only its runtime,"
        run_isolated(runtime_probe.__file__, json.dumps(plan), subject=subject)
        with np.load(outputs) as arrays:
            batches = [arrays[name] for name in sorted(arrays) if name.startswith("batch-")]
            times = {
                size: float(np.median(arrays[f"timed-{size:03d}"])) for size in TIMED_BATCH_SIZES
            }
            signature = json.loads(str(arrays["signature"]))
    all_outputs = concatenate_padded(batches)
    if not np.isfinite(all_outputs).all():
        raise ExportError(f"{path} returns values that are not finite. Choose another format.")
    return ProbeResult(all_outputs, times, signature["takes"], signature["gives"])
