"""Who follows a run: TensorBoard always, and the services that a recipe names.

Services are imported where they are asked for, and a service that fails does not end a run.
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

from sft_keras.core.errors import RecipeError
from sft_keras.core.files import write_atomic
from sft_keras.core.flatten import flatten_as_text
from sft_keras.recipe.loader import to_plain
from sft_keras.recipe.recipe import Recipe
from sft_keras.runs.folder import RunFolder

TRACKED = "trackers.json"
"""In the run folder: how each service calls the run, so that a resumed one goes on there."""
_PROJECT = "sft_keras"
_PACKAGES = {"mlflow": "mlflow", "wandb": "wandb"}
_LONGEST = 500  # characters of a parameter that services show


class Service(abc.ABC):
    """A service that a run is followed by.

    Attributes:
      id: What the service calls the run.
      where: Where a person finds it.
    """

    id: str
    where: str

    @abc.abstractmethod
    def note(self, step: int, figures: Mapping[str, float]) -> None:
        """Takes the figures of an epoch, see `TensorBoard.note`."""

    @abc.abstractmethod
    def end(self, figures: Mapping[str, float], report: Path | None) -> None:
        """Takes the figures of the test split and the page; None for a run that failed."""


class MLflow(Service):
    """MLflow, where MLFLOW_TRACKING_URI says; the experiment is MLFLOW_EXPERIMENT_NAME's."""

    def __init__(self, name: str, recipe: Mapping[str, str], known: str | None) -> None:
        """`known` is the id of a run to go on with; None for a new one."""
        import mlflow

        self._entities, self._client = mlflow.entities, mlflow.MlflowClient()
        if known is None:
            experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
            found = self._client.get_experiment_by_name(experiment)
            number = found.experiment_id if found else self._client.create_experiment(experiment)
            known = self._client.create_run(number, run_name=name).info.run_id
            params = [mlflow.entities.Param(k, v[:_LONGEST]) for k, v in recipe.items()]
            for start in range(0, len(params), 100):  # which is the most it takes at once
                self._client.log_batch(known, params=params[start : start + 100])
        self.id, self.where = known, f"{mlflow.get_tracking_uri()}, run {known}"

    def note(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Service.note`."""
        metrics = [self._entities.Metric(k, v, 0, step) for k, v in figures.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def end(self, figures: Mapping[str, float], report: Path | None) -> None:
        """See `Service.end`."""
        self.note(0, {f"test_{name}": value for name, value in figures.items()})
        if report is not None:
            self._client.log_artifact(self.id, str(report))
        self._client.set_terminated(self.id, "FAILED" if report is None else "FINISHED")


class WandB(Service):
    """Weights & Biases; WANDB_PROJECT, WANDB_MODE and the like are its own."""

    def __init__(self, name: str, recipe: Mapping[str, str], known: str | None) -> None:
        """`known` is the id of a run to go on with; None for a new one."""
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=name,
            id=known,
            resume="allow",
            config=dict(recipe),
            settings=wandb.Settings(silent=True),
        )
        self.id, self.where = self._run.id, self._run.url or self._run.dir

    def note(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Service.note`."""
        self._run.log(dict(figures), step=step)

    def end(self, figures: Mapping[str, float], report: Path | None) -> None:
        """See `Service.end`."""
        self._run.summary.update({f"test_{name}": value for name, value in figures.items()})
        if report is not None:
            self._run.save(str(report), base_path=str(report.parent), policy="now")
        self._run.finish(exit_code=int(report is None))


_SERVICES: dict[str, Callable[..., Service]] = {"mlflow": MLflow, "wandb": WandB}


class Trackers:
    """All who follow a run."""

    def __init__(self, recipe: Recipe, run: RunFolder) -> None:
        self._run, self._board = run, TensorBoard(run.file("tensorboard"))
        run.epoch_listeners.append(lambda step, figures: self._board.note(step, figures))
        self._services: dict[str, Service] = {}
        known = _known(run.file(TRACKED))
        plain = dict(flatten_as_text(to_plain(recipe)))
        for name in recipe.trackers:
            with self._unless_it_fails(name):
                service = _SERVICES[name](run.path.name, plain, known.get(name))
                self._services[name] = service
                run.line(f"{name}  {service.where}")
        if self._services:
            ids = {name: each.id for name, each in self._services.items()}
            write_atomic(run.file(TRACKED), json.dumps(known | ids) + "\n")
            run.epoch_listeners.append(self._note)

    def end(self, metrics: Mapping[str, Any], report: Path | None) -> None:
        """Tells all that the run has ended; `report` is None where it failed."""
        figures = {
            name: each["value"] if isinstance(each, Mapping) else each
            for name, each in metrics.items()
            if isinstance(each, float) or (isinstance(each, Mapping) and "value" in each)
        }
        for name, service in list(self._services.items()):
            with self._unless_it_fails(name):
                service.end(figures, report)
        self._services.clear()
        self._board.close()

    def _note(self, step: int, figures: Mapping[str, float]) -> None:
        for name, service in list(self._services.items()):
            with self._unless_it_fails(name):
                service.note(step, figures)

    @contextlib.contextmanager
    def _unless_it_fails(self, name: str) -> Iterator[None]:
        """Goes on without a service that fails in the block."""
        try:
            yield
        except Exception as error:  # of a service that may do anything, over a network
            self._services.pop(name, None)
            told = " ".join(str(error).split())[:_LONGEST]
            self._run.line(f"warning  {name} does not follow any more: {told}")


@contextlib.contextmanager
def open_trackers(recipe: Recipe, run: RunFolder) -> Iterator[Trackers]:
    """Returns the block within which a run is followed."""
    followers = Trackers(recipe, run)
    try:
        yield followers
    except BaseException:
        followers.end({}, None)
        raise


def require_trackers(recipe: Recipe) -> None:
    """Checks that what a recipe's services need is installed.

    Raises:
      RecipeError: If not.
    """
    missing = [each for each in recipe.trackers if find_spec(_PACKAGES[each]) is None]
    if missing:
        raise RecipeError(
            f"`trackers` names what is not installed: {', '.join(missing)}. "
            f"pip install {' '.join(_PACKAGES[each] for each in missing)}, or leave it out."
        )


def _known(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # a new run, or one that nobody followed
        return {}


_VALIDATION = "val_"


# `tf.summary.scalar` writes the same, and fails where TensorBoard itself is not installed.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
)


class TensorBoard:
    """Writes FOLDER/train and FOLDER/validation, which TensorBoard shows in one plot."""

    def __init__(self, folder: Path) -> None:
        """`folder` may hold what the run has written before it was stopped."""
        self._writers = {
            split: tf.summary.create_file_writer(str(folder / split))
            for split in ("train", "validation")
        }

    def note(self, step: int, figures: Mapping[str, float]) -> None:
        """Notes the figures of an epoch.

        Args:
          step: Batches trained on, in all stages together.
          figures: By name; those of validation begin with "val_".
        """
        for name, value in figures.items():
            split = "validation" if name.startswith(_VALIDATION) else "train"
            with self._writers[split].as_default():
                tag = name.removeprefix(_VALIDATION)
                tf.summary.write(tag, tf.constant(value, tf.float32), step, metadata=_SCALAR)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()
