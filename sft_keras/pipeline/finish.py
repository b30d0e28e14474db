"""What a run does with the trained model. Each part is done once, and recorded."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from sft_keras.backbones.layers import count_parameters
from sft_keras.core.snapshot import Snapshot
from sft_keras.core.timer import Timer
from sft_keras.data.examples import DataInfo
from sft_keras.data.prepared import Prepared
from sft_keras.distributed.devices import ONE_DEVICE
from sft_keras.evaluation.calibration import apply_temperature, calibration
from sft_keras.export.paths import EXPORT, SAVED_MODEL, VERSION
from sft_keras.export.saved_model import (
    check_saved_model,
    export_saved_model,
    output_tolerance,
)
from sft_keras.export.saved_model_probe import packed
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.loader import LoadedRecipe, to_plain
from sft_keras.recipe.recipe import Recipe
from sft_keras.runs.environment import environment
from sft_keras.runs.folder import RunFolder

PARTS = ("saved", "evaluated", "exported")
_CHECKED_EXAMPLES = 32
_PICTURE, _SAMPLE, _EXPECTED = "picture/", "sample/", "expected"


class RunFinisher:
    """Saves, evaluates and exports a model whose stages are done.

    Attributes:
      model: The whole model, with its probabilities calibrated where that is possible.
    """

    def __init__(
        self,
        staged: StagedModel,
        recipe: Recipe,
        test: Prepared,
        info: DataInfo,
        run: RunFolder,
        temperature: float = 1.0,
    ) -> None:
        self._staged, self._recipe, self._test = staged, recipe, test
        self._info, self._run, self._temperature = info, run, temperature
        self.model = staged.model if temperature == 1.0 else staged.with_temperature(temperature)

    def save(self) -> Snapshot:
        """Writes model.keras and what files of its own the task has; returns {"notes"}."""
        whole, part = self._run.file("model.keras"), self._run.file(".part-model.keras")
        try:
            self.model.save(part)
            part.replace(whole)
        finally:
            part.unlink(missing_ok=True)  # of a disk that is full
        return Snapshot(
            {"notes": self._recipe.task.save_artifacts(self._staged, self._recipe, self._run.path)}
        )

    def evaluate(self) -> Snapshot:
        """Scores the test split.

        Returns:
          {"metrics", "mistakes", "uncertain"}, and in the arrays the pictures of these examples,
          and what to ask the exported model.
        """
        task, test, info = self._recipe.task, self._test, self._info
        batches = task.evaluation_batches(test, self._recipe, info)
        outputs = task.predict_outputs(self.model, batches, ONE_DEVICE)
        shown = task.report_examples(outputs, test, info)
        samples, expected = task.signature_samples(outputs, test, _CHECKED_EXAMPLES)
        arrays = {_SAMPLE + name: values for name, values in packed(samples).items()}
        for number, picture in enumerate(shown.pictures):
            arrays[f"{_PICTURE}{number:03d}"] = np.frombuffer(picture, np.uint8)
        metrics = task.evaluate(outputs, test, info, self._recipe.seed)
        if "calibration" in metrics:
            before = apply_temperature(outputs, 1 / self._temperature)
            metrics["calibration"] |= {
                "temperature": self._temperature,
                "before": calibration(before, test.examples.labels),
            }
        facts = {"metrics": metrics, "mistakes": shown.mistakes, "uncertain": shown.uncertain}
        return Snapshot(facts, {**arrays, _EXPECTED: expected})

    def export(self, evaluated: Snapshot) -> Snapshot:
        """Writes the SavedModel and asks it in a fresh process; returns what the report says."""
        self._run.line("export  writing and verifying the SavedModel")
        signatures = self._recipe.task.signatures(self.model, self._recipe, self._info)
        whole, part = self._run.file(EXPORT), self._run.file(f".part-{EXPORT}")
        for folder in (part, whole):  # of a run that was stopped here
            shutil.rmtree(folder, ignore_errors=True)
        export_saved_model(signatures, self.model, part / str(VERSION))
        part.rename(whole)
        samples = {
            name.removeprefix(_SAMPLE): values
            for name, values in evaluated.arrays.items()
            if name.startswith(_SAMPLE)
        }
        checked = check_saved_model(
            self._run.file(SAVED_MODEL),
            samples,
            evaluated.arrays[_EXPECTED],
            signatures.needs,
            signatures.compared,
            output_tolerance(self.model) * signatures.unit,
        )
        return Snapshot({"path": SAVED_MODEL, **signatures.as_json(), **checked})


def pictures_of(evaluated: Snapshot) -> list[bytes]:
    """Returns the PNG files that `RunFinisher.evaluate` kept, in order."""
    names = sorted(name for name in evaluated.arrays if name.startswith(_PICTURE))
    return [evaluated.arrays[name].tobytes() for name in names]


def about_start(loaded: LoadedRecipe, smoke: bool, command: str) -> dict[str, Any]:
    """Returns how a run was begun, which one that goes on with it could not know."""
    return {
        "smoke": smoke,
        "title": loaded.name,
        "description": loaded.description,
        "command": command,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def about_run(
    recipe: Recipe,
    began: Mapping[str, Any],
    timer: Timer,
    info: DataInfo,
    staged: StagedModel,
) -> dict[str, Any]:
    """Returns what report.json says of a run beside its results, as plain values."""
    backbone = recipe.backbone
    return {
        "format": 1,
        **began,
        "recipe": to_plain(recipe),
        "environment": environment(),
        "seconds": timer.as_json(),
        "data": info.as_json(),
        "model": {
            "preset": backbone.preset,
            "weights": backbone.weights,
            "reads": recipe.task.describe_input(recipe),
            "parameters": count_parameters(staged.model.weights),
            "blocks": [
                {
                    "name": block.name,
                    "layers": len(block.layers),
                    "parameters": sum(layer.count_params() for layer in block.layers),
                }
                for block in staged.backbone.blocks
            ],
        },
        "notes": [],
    }
