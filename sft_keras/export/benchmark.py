"""Converts a trained model, and compares each exported file with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sft_keras.evaluation.inference import predict_batches
from sft_keras.export import converters
from sft_keras.export.comparison import (
    align_outputs,
    clip_probabilities,
    differences,
    recall_per_class,
)
from sft_keras.export.finished_run import FinishedRun, RestoredRun, require_same_score
from sft_keras.export.formats import LITERT, ONNX, Format
from sft_keras.export.probe_client import ProbeResult, SavedModelCall, probe
from sft_keras.export.probe_inputs import (
    ProbeInputs,
    input_batches,
    text_batches,
    write_batches,
    write_probe_inputs,
)
from sft_keras.tasks.base import build_task

_CALIBRATION_SAMPLES = 200
"""The number of training examples that calibrate the scales of a quantized file."""


class ExportBenchmark:
    """Compares exported files with the trained model on the splits of its run.

    Attributes:
      class_names: The names along the last axis of the probabilities: classes, or tags.
    """

    def __init__(
        self, run: FinishedRun, restored: RestoredRun, scratch: Path, threads: int
    ) -> None:
        """Evaluate the trained model on the test split.

        Args:
          run: The finished run.
          restored: Its model and data.
          scratch: An empty folder for temporary files.
          threads: The number of threads of a runtime when latency is measured.

        Raises:
          DataError: The test score differs from that in the report of the run.
        """
        self._run, self._restored, self._scratch, self._threads = run, restored, scratch, threads
        self._task = build_task(run.recipe, restored.info)
        self.class_names = self._task.exporter.output_names()
        self._splits: dict[str, tuple[ProbeInputs, dict[str, Any]]] = {}
        require_same_score(run, self._split("test")[1], restored.half_precision)

    def convert(self, target: Format, path: Path) -> None:
        """Write the model in a format.

        Raises:
          ExportError: The model cannot be converted.
        """
        model = self._restored.model
        if target is ONNX:
            converters.write_onnx(model, path)
        elif target is LITERT:
            converters.write_litert(model, path)
        else:
            converters.write_litert_int8(model, path, list(self._calibration_samples()))

    def measure(self, target: Format, path: Path) -> dict[str, Any]:
        """Run a file on the test split, and a quantized one on the validation split too.

        Returns:
          The file's row of exports.json.
        """
        inputs, trained = self._split("test")
        result = probe(target, path, inputs.folder, self._threads)
        row = self._row(target, result, inputs, trained)
        row["bytes"] = path.stat().st_size
        row["takes"], row["gives"] = result.takes, result.gives
        if target.is_quantized:
            inputs, trained = self._split("validation")
            outputs = probe(target, path, inputs.folder, self._threads).outputs
            row["validation"] = self._scores(trained, self._metrics("validation", outputs))
            row["samples"] = min(
                _CALIBRATION_SAMPLES, len(self._restored.prepared["train"].examples)
            )
        return row

    def measure_saved_model(self, target: Format, path: Path) -> dict[str, Any]:
        """Run the run's SavedModel, preprocessing included, on the test split.

        Returns:
          Its row of exports.json.
        """
        task, test = self._task, self._restored.prepared["test"]
        inputs, trained = self._split("test")
        signatures = task.exporter.signatures(self._restored.model)
        *_, signature = signatures.functions
        folder = inputs.folder
        if "images" not in signatures.functions:
            samples, _ = task.exporter.samples(inputs.expected, test, len(test.examples))
            (signature,) = samples
            batches = text_batches(samples[signature], self._run.recipe.data.batch_size)
            folder = self._scratch / "served"
            write_batches(batches, folder)
        call = SavedModelCall(signature, signatures.compared, signatures.needs)
        result = probe(target, path, folder, self._threads, call)
        row = self._row(target, result, inputs, trained)
        row["bytes"] = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        row["takes"], row["gives"] = signatures.as_json()["signatures"], None
        return row

    def _row(
        self, target: Format, result: ProbeResult, inputs: ProbeInputs, trained: Mapping[str, Any]
    ) -> dict[str, Any]:
        exported = self._metrics("test", align_outputs(result.outputs, inputs))
        return {
            "format": target.name,
            "file": target.file,
            **differences(result.outputs, inputs),
            "examples": len(inputs.expected),
            "score": self._scores(trained, exported),
            "per_class": recall_per_class(trained, exported),
            "milliseconds": {str(size): time for size, time in result.milliseconds.items()},
            "threads": self._threads,
        }

    def _split(self, name: str) -> tuple[ProbeInputs, dict[str, Any]]:
        """Return the inputs of a split, and the trained model's metrics on it."""
        if name not in self._splits:
            batches = self._batches(name)
            outputs = predict_batches(self._restored.model, batches)
            inputs = write_probe_inputs(input_batches(batches), outputs, self._scratch / name)
            self._splits[name] = inputs, self._metrics(name, outputs)
        return self._splits[name]

    def _batches(self, name: str) -> Any:
        return self._task.batches.evaluation(self._restored.prepared[name])

    def _metrics(self, name: str, outputs: np.ndarray) -> dict[str, Any]:
        return self._task.evaluator.evaluate(
            clip_probabilities(outputs), self._restored.prepared[name]
        )

    def _scores(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
        name = self._task.config.score.name
        trained, exported = before[name]["value"], after[name]["value"]
        return {"name": name, "trained": trained, "exported": exported}

    def _calibration_samples(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield random training examples, one at a time; the recipe's seed selects them."""
        recipe, restored = self._run.recipe, self._restored
        train, generator = restored.prepared["train"], np.random.default_rng(recipe.seed)
        total = len(train.examples)
        size = min(_CALIBRATION_SAMPLES, total)
        indices = np.sort(generator.choice(total, size, replace=False))
        subset = train.subset(indices)
        for batch in self._task.batches.evaluation(subset):
            inputs = {name: x.numpy() for name, x in converters.named_inputs(batch[0]).items()}
            for row in range(len(next(iter(inputs.values())))):
                yield {name: x[row : row + 1] for name, x in inputs.items()}
