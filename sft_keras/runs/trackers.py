"""Experiment trackers: TensorBoard always, and the services that a recipe names.

A service is imported only when a recipe names it, and its failure does not stop the run.
"""

from __future__ import annotations

import abc
import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tensorflow as tf
from typing_extensions import override

from sft_keras.core.errors import RecipeError
from sft_keras.core.files import write_atomic
from sft_keras.core.flatten import flatten_as_text
from sft_keras.recipe.loader import to_plain
from sft_keras.recipe.recipe import Recipe
from sft_keras.runs.folder import RunFolder

TRACKED = "trackers.json"
"""The file of the run's id in each service, under which a resumed run continues."""
_PROJECT = "sft_keras"
_PACKAGES = {"mlflow": "mlflow", "wandb": "wandb"}
_MAX_CHARACTERS = 500  # of a parameter or an error message


class Service(abc.ABC):
    """An experiment-tracking service.

    Attributes:
      id: The service's id of the run.
      location: Where a person finds the run, e.g. a URL.
    """

    id: str
    location: str

    @abc.abstractmethod
    def log_epoch(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an epoch.

        Args:
          step: Batches trained on so far, over all stages.
          metrics: {name: value}; names of validation metrics begin with "val_".
        """

    @abc.abstractmethod
    def finish(self, metrics: Mapping[str, float], report: Path | None) -> None:
        """End the run.

        Args:
          metrics: {name: value} of the test split.
          report: The report page; None for a run that failed.
        """


class MLflow(Service):
    """MLflow, configured by MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME."""

    def __init__(self, name: str, recipe: Mapping[str, str], run_id: str | None) -> None:
        """Start a run, or continue the one of `run_id`."""
        import mlflow

        self._entities, self._client = mlflow.entities, mlflow.MlflowClient()
        if run_id is None:
            title = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
            experiment = self._client.get_experiment_by_name(title)
            experiment_id = (
                experiment.experiment_id if experiment else self._client.create_experiment(title)
            )
            run_id = self._client.create_run(experiment_id, run_name=name).info.run_id
            params = [mlflow.entities.Param(k, v[:_MAX_CHARACTERS]) for k, v in recipe.items()]
            for start in range(0, len(params), 100):  # the maximum of one request
                self._client.log_batch(run_id, params=params[start : start + 100])
        self.id, self.location = run_id, f"{mlflow.get_tracking_uri()}, run {run_id}"

    @override
    def log_epoch(self, step: int, metrics: Mapping[str, float]) -> None:
        entities = [self._entities.Metric(k, v, 0, step) for k, v in metrics.items()]
        self._client.log_batch(self.id, metrics=entities)

    @override
    def finish(self, metrics: Mapping[str, float], report: Path | None) -> None:
        self.log_epoch(0, {f"test_{name}": value for name, value in metrics.items()})
        if report is not None:
            self._client.log_artifact(self.id, str(report))
        self._client.set_terminated(self.id, "FAILED" if report is None else "FINISHED")


class WandB(Service):
    """Weights & Biases, configured by WANDB_PROJECT, WANDB_MODE and its other variables."""

    def __init__(self, name: str, recipe: Mapping[str, str], run_id: str | None) -> None:
        """Start a run, or continue the one of `run_id`."""
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=name,
            id=run_id,
            resume="allow",
            config=dict(recipe),
            settings=wandb.Settings(silent=True),
        )
        self.id, self.location = self._run.id, self._run.url or self._run.dir

    @override
    def log_epoch(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    @override
    def finish(self, metrics: Mapping[str, float], report: Path | None) -> None:
        self._run.summary.update({f"test_{name}": value for name, value in metrics.items()})
        if report is not None:
            self._run.save(str(report), base_path=str(report.parent), policy="now")
        self._run.finish(exit_code=int(report is None))


_SERVICES: dict[str, Callable[..., Service]] = {"mlflow": MLflow, "wandb": WandB}


class Trackers:
    """The trackers of one run, fed by the epochs that its folder reports."""

    def __init__(self, recipe: Recipe, run: RunFolder) -> None:
        self._run, self._board = run, TensorBoard(run.file("tensorboard"))
        run.epoch_listeners.append(lambda step, metrics: self._board.log_epoch(step, metrics))
        self._services: dict[str, Service] = {}
        run_ids = _read_run_ids(run.file(TRACKED))
        parameters = dict(flatten_as_text(to_plain(recipe)))
        for name in recipe.trackers:
            with self._dropped_on_error(name):
                service = _SERVICES[name](run.path.name, parameters, run_ids.get(name))
                self._services[name] = service
                run.line(f"{name}  {service.location}")
        if self._services:
            run_ids |= {name: service.id for name, service in self._services.items()}
            write_atomic(run.file(TRACKED), json.dumps(run_ids) + "\n")
            run.epoch_listeners.append(self._log_epoch)

    def finish(self, metrics: Mapping[str, Any], report: Path | None) -> None:
        """End the run in all trackers.

        Args:
          metrics: Metrics of the test split as in the report: values or estimates with "value".
          report: The report page; None for a run that failed.
        """
        values = {
            name: metric["value"] if isinstance(metric, Mapping) else metric
            for name, metric in metrics.items()
            if isinstance(metric, float) or (isinstance(metric, Mapping) and "value" in metric)
        }
        for name, service in list(self._services.items()):
            with self._dropped_on_error(name):
                service.finish(values, report)
        self._services.clear()
        self._board.close()

    def _log_epoch(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, service in list(self._services.items()):
            with self._dropped_on_error(name):
                service.log_epoch(step, metrics)

    @contextlib.contextmanager
    def _dropped_on_error(self, name: str) -> Iterator[None]:
        """Drop a service that fails within the block, and continue without it."""
        try:
            yield
        except Exception as error:  # a service may raise anything, also of its network
            self._services.pop(name, None)
            reason = " ".join(str(error).split())[:_MAX_CHARACTERS]
            self._run.line(f"warning  {name} no longer tracks this run: {reason}")


@contextlib.contextmanager
def open_trackers(recipe: Recipe, run: RunFolder) -> Iterator[Trackers]:
    """Track a run within the block; if it raises, the run ends as failed in the services."""
    trackers = Trackers(recipe, run)
    try:
        yield trackers
    except BaseException:
        trackers.finish({}, None)
        raise


def require_trackers(recipe: Recipe) -> None:
    """Check that the packages of a recipe's trackers are installed.

    Raises:
      RecipeError: If one is missing.
    """
    missing = [name for name in recipe.trackers if find_spec(_PACKAGES[name]) is None]
    if missing:
        raise RecipeError(
            f"`trackers` must be installed. Received: {', '.join(missing)}, missing here. "
            f"Run pip install {' '.join(_PACKAGES[name] for name in missing)}, or remove them."
        )


def _read_run_ids(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # a new run, or one without services
        return {}


_VALIDATION = "val_"


# `tf.summary.scalar` writes the same, but fails where TensorBoard itself is not installed.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
)


class TensorBoard:
    """Writes FOLDER/train and FOLDER/validation, which TensorBoard shows in one plot."""

    def __init__(self, folder: Path) -> None:
        """Open the writers; `folder` may hold summaries of the run before it was stopped."""
        self._writers = {
            split: tf.summary.create_file_writer(str(folder / split))
            for split in ("train", "validation")
        }

    def log_epoch(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of an epoch.

        Args:
          step: Batches trained on so far, over all stages.
          metrics: {name: value}; names of validation metrics begin with "val_".
        """
        for name, value in metrics.items():
            split = "validation" if name.startswith(_VALIDATION) else "train"
            with self._writers[split].as_default():
                tag = name.removeprefix(_VALIDATION)
                tf.summary.write(tag, tf.constant(value, tf.float32), step, metadata=_SCALAR)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
