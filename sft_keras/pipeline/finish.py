"""After the last stage: save, evaluate and export the model, and write the report."""

from __future__ import annotations

import contextlib
import datetime
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.backbones.layers import count_parameters
from sft_keras.check.findings import Finding
from sft_keras.core.output import join_command
from sft_keras.core.snapshot import Snapshot
from sft_keras.core.timer import Timer
from sft_keras.data.notes import data_notes
from sft_keras.distributed.devices import ONE_DEVICE
from sft_keras.evaluation.bootstrap import KINDS
from sft_keras.export.paths import EXPORT, SAVED_MODEL, VERSION
from sft_keras.export.saved_model import (
    check_saved_model,
    export_saved_model,
    output_tolerance,
)
from sft_keras.export.saved_model_probe import packed
from sft_keras.recipe.loader import LoadedRecipe, to_plain
from sft_keras.report import write_report
from sft_keras.runs.environment import environment
from sft_keras.runs.result import Result
from sft_keras.runs.trackers import Trackers
from sft_keras.training.experiment import Experiment

PARTS = ("saved", "evaluated", "exported")
"""Names of the parts whose results `Checkpoints.run_once` keeps."""
_CHECKED_EXAMPLES = 32
_PICTURE, _SAMPLE, _EXPECTED = "picture/", "sample/", "expected"


class RunFinisher:
    """Saves, evaluates and exports a model after its last stage, and writes the report.

    Each part is done once: its result is kept in the run folder, where a resumed run finds it.

    Attributes:
      model: The whole model, with calibrated probabilities if the task supports calibration.
    """

    def __init__(self, experiment: Experiment, temperature: float = 1.0) -> None:
        """Build the finisher.

        Args:
          experiment: The experiment, with the trained model.
          temperature: The calibration temperature to divide logits by.
        """
        self._experiment, self._run = experiment, experiment.run
        self._test, self._temperature = experiment.prepared["test"], temperature
        staged = experiment.staged
        self.model = staged.model if temperature == 1.0 else staged.with_temperature(temperature)

    def finish(
        self,
        stages: Sequence[Mapping[str, Any]],
        findings: Sequence[Finding],
        began: Mapping[str, Any],
        timer: Timer,
        trackers: Trackers,
    ) -> Result:
        """Save, evaluate and export the model, write the report and return the run's result.

        Args:
          stages: The results of the stages, from `train_stages`.
          findings: Findings about the data, for the report.
          began: Facts from the run's first process, from `about_start`.
          timer: The run's timer.
          trackers: The experiment trackers, which receive the test metrics.
        """
        experiment, run, checkpoints = self._experiment, self._run, self._run.checkpoints
        saved = checkpoints.run_once("saved", self.save)
        with timer("evaluation"):
            evaluated = checkpoints.run_once("evaluated", self.evaluate)
        with timer("export"):
            exported = checkpoints.run_once("exported", lambda: self.export(evaluated))
        metrics, notes = evaluated.facts["metrics"], saved.facts["notes"]
        task = experiment.recipe.task
        score, test_metrics = task.score, task.test_metrics
        report = {
            **about_run(experiment, began, timer),
            "inputs": {name: dict(split.facts) for name, split in experiment.prepared.items()},
            "checked": [{"what": each.describe(), "spoils": each.spoils} for each in findings],
            "stages": stages,
            "score": score.name,
            "metrics": {metric.name: metric.as_json() for metric in (score, *test_metrics)},
            "test": metrics,
            "mistakes": evaluated.facts["mistakes"],
            "uncertain": evaluated.facts["uncertain"],
            "export": exported.facts,
            "notes": [
                *experiment.staged.backbone.notes,
                *notes,
                *(warning for stage in stages for warning in stage["warnings"]),
            ],
        }
        pictures = _pictures(evaluated)
        write_report(report, pictures, run.path, experiment.task.config.pipeline_tag)
        checkpoints.clear()
        trackers.finish(metrics, run.file("report.html"))
        self._print_result(metrics, notes)
        with contextlib.suppress(tf.errors.OpError):  # a worker has ended, and is not needed
            experiment.devices.barrier()  # workers would take an earlier end for a failure
        return Result(
            metrics=metrics,
            history=history_of(stages),
            model=self.model,
            report=report,
            run_dir=run.path,
            export_dir=run.file(SAVED_MODEL),
            pictures=tuple(pictures),
        )

    def _print_result(self, metrics: dict[str, Any], notes: Sequence[str]) -> None:
        run, task = self._run, self._experiment.task
        for note in notes:
            run.line(f"note  {note}")
        run.line(f"test  {task.evaluator.summary(metrics)}")
        run.line(f"report  {run.file('report.html')}")
        argument = task.config.predict_argument
        command = join_command(["python", "-m", "sft_keras.predict", f"--run={run.path}"])
        run.line(f"predict  {command} {argument}...")

    def save(self) -> Snapshot:
        """Write model.keras and the task's own artifacts; return {"notes"}."""
        experiment = self._experiment
        path, part = self._run.file("model.keras"), self._run.file(".part-model.keras")
        try:
            self.model.save(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)  # left behind if the disk is full
        notes = experiment.task.save_artifacts(experiment.staged, self._run.path)
        return Snapshot({"notes": notes})

    def evaluate(self) -> Snapshot:
        """Evaluate the model on the test split.

        Returns:
          Facts {"metrics", "mistakes", "uncertain"}; arrays with the images of those examples,
          and with samples and expected outputs to verify the exported model by.
        """
        task, test = self._experiment.task, self._test
        batches = task.batches.evaluation(test)
        outputs = task.evaluator.predict(self.model, batches, ONE_DEVICE)
        examples = task.evaluator.report_examples(outputs, test)
        samples, expected = task.exporter.samples(outputs, test, _CHECKED_EXAMPLES)
        arrays = {_SAMPLE + name: values for name, values in packed(samples).items()}
        for number, picture in enumerate(examples.pictures):
            arrays[f"{_PICTURE}{number:03d}"] = np.frombuffer(picture, np.uint8)
        metrics = task.evaluator.evaluate(outputs, test, self._temperature)
        facts = {
            "metrics": metrics,
            "mistakes": examples.mistakes,
            "uncertain": examples.uncertain,
        }
        return Snapshot(facts, {**arrays, _EXPECTED: expected})

    def export(self, evaluated: Snapshot) -> Snapshot:
        """Write the SavedModel and verify it in a fresh process; return facts for the report."""
        self._run.line("export  writing and verifying the SavedModel")
        signatures = self._experiment.task.exporter.signatures(self.model)
        path, part = self._run.file(EXPORT), self._run.file(f".part-{EXPORT}")
        for folder in (part, path):  # left behind by a run that was stopped here
            shutil.rmtree(folder, ignore_errors=True)
        task = self._experiment.recipe.task
        export_saved_model(signatures, self.model, part / str(VERSION), task)
        part.rename(path)
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


def _pictures(evaluated: Snapshot) -> list[bytes]:
    """Return the PNG files in the result of `RunFinisher.evaluate`, in order."""
    names = sorted(name for name in evaluated.arrays if name.startswith(_PICTURE))
    return [evaluated.arrays[name].tobytes() for name in names]


def history_of(stages: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return {stage name: {metric: one value per epoch}} of stage results."""
    return {stage["name"]: stage["history"] for stage in stages}


def about_start(loaded: LoadedRecipe, smoke: bool, command: str) -> dict[str, Any]:
    """Return facts about the start of a run that a resumed run cannot derive itself."""
    return {
        "smoke": smoke,
        "title": loaded.name,
        "description": loaded.description,
        "command": command,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def about_run(experiment: Experiment, began: Mapping[str, Any], timer: Timer) -> dict[str, Any]:
    """Return the part of report.json that describes the run, without results, as plain values."""
    recipe, staged, info = experiment.recipe, experiment.staged, experiment.info
    return {
        "format": 1,
        **began,
        "recipe": to_plain(recipe),
        "environment": environment(),
        "seconds": timer.as_json(),
        "data": {**info.as_json(), "notes": data_notes(info, experiment.prepared)},
        "model": {
            "preset": recipe.backbone.preset,
            "weights": recipe.backbone.weights,
            "reads": experiment.task.preprocessor.describe_input(),
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
        "intervals": KINDS,
        "notes": [],
    }
