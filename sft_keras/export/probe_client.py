"""What an exported file answers in a process of its own, and how fast."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sft_keras.core.errors import ExportError
from sft_keras.evaluation.inference import joined
from sft_keras.export import runtime_probe
from sft_keras.export.formats import Format
from sft_keras.export.isolated_process import run_alone
from sft_keras.export.probe_inputs import TIMED


@dataclasses.dataclass(frozen=True)
class Served:
    """What to ask of a SavedModel.

    Attributes:
      signature: The function to ask.
      output: What of its answer.
      needs: Modules to import first.
    """

    signature: str
    output: str
    needs: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Answers:
    """What was answered.

    Attributes:
      outputs: Float32 [n, ...], of all examples in their order.
      milliseconds: {batch size: median time of a call}.
      takes, gives: What the file itself says of its inputs and outputs, {name: text}.
    """

    outputs: np.ndarray
    milliseconds: dict[int, float]
    takes: dict[str, str]
    gives: dict[str, str]


def ask(
    made: Format, path: Path, questions: Path, threads: int, served: Served | None = None
) -> Answers:
    """Loads a file in a fresh process that knows its runtime alone, and asks it.

    Args:
      made: The file's format.
      path: The file, or the SavedModel's folder.
      questions: A folder, see `asking`.
      threads: That the runtime may use within an operation.
      served: What to ask of a SavedModel.

    Raises:
      ExportError: If it cannot be loaded or asked.
    """
    with tempfile.TemporaryDirectory() as scratch:
        outputs = Path(scratch, "outputs.npz")
        plan = {
            "runtime": made.runtime,
            "model": str(path),
            "inputs": str(questions),
            "outputs": str(outputs),
            "threads": threads,
            **(dataclasses.asdict(served) if served else {}),
        }
        run_alone(runtime_probe.__file__, json.dumps(plan), about=f"{path}, by its runtime alone,")
        with np.load(outputs) as found:
            batches = [found[name] for name in sorted(found) if name.startswith("batch-")]
            times = {size: float(np.median(found[f"timed-{size:03d}"])) for size in TIMED}
            signature = json.loads(str(found["signature"]))
    answered = joined(batches)
    if not np.isfinite(answered).all():
        raise ExportError(f"{path} answers with what is no number. Take another format.")
    return Answers(answered, times, signature["takes"], signature["gives"])
