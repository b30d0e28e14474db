"""A finished run, opened again: its model, and its data as it read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_keras.core.errors import DataError, RunFolderError
from sft_keras.core.files import read_json
from sft_keras.recipe.loader import load_recipe
from sft_keras.recipe.recipe import Recipe
from sft_keras.runs.folder import RECIPE, REPORT, is_finished

if TYPE_CHECKING:
    import keras

    from sft_keras.data.examples import DataInfo
    from sft_keras.data.prepared import Prepared

MODEL, SPLITS = "model.keras", "splits.json"
_NEEDED = (MODEL, RECIPE, SPLITS, REPORT)
_FROM_PYTHON = ("Arrays", "Texts", "TaggedWords", "Questions")
_SAME_SCORE = 0.005


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """What the folder of a finished run says.

    Attributes:
      path: The folder.
      recipe: What was run.
      report: What report.json holds.
    """

    path: Path
    recipe: Recipe
    report: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class OpenedModel:
    """A trained model with its data.

    Attributes:
      model: As it was trained.
      prepared: The splits.
      info: Facts about them.
    """

    model: keras.Model
    prepared: Mapping[str, Prepared]
    info: DataInfo


def read_run(run: str | Path) -> FinishedRun:
    """Returns what a run's folder says; does not import TensorFlow.

    Raises:
      RunFolderError: If it is not the folder of a finished run.
      RecipeError: If its data were given from Python, and so cannot be opened again.
    """
    path = Path(run).expanduser()
    missing = [name for name in _NEEDED if not (path / name).is_file()]
    if missing or not is_finished(path):
        what = f"lacks {', '.join(missing)}" if missing else "was stopped before its end"
        raise RunFolderError(
            f"--run must be the folder of a finished run. Received: {str(run)!r}, which {what}."
        )
    report = read_json(path / REPORT)
    source = report.get("data", {}).get("source", "") if isinstance(report, dict) else ""
    if source.split("(")[0] in _FROM_PYTHON:
        raise RunFolderError(
            "A run can be exported anew if its data can be opened anew, from files. Received: "
            f"{source}, which was given from Python, in {str(run)!r}. Write the data to files and "
            "run the recipe on those."
        )
    return FinishedRun(path, load_recipe(path / RECIPE).recipe, report)


def open_model(run: FinishedRun) -> OpenedModel:
    """Opens a run's model and data.

    Raises:
      DataError: If the data cannot be read, or are not split as they were.
      RunFolderError: If the model cannot be loaded.
    """
    task = run.recipe.task
    splits = task.open_data(run.recipe, run.recipe.seed)
    now, then = splits.as_json(), read_json(run.path / SPLITS)
    changed = [name for name in ("class_names", "ids") if now[name] != then.get(name)]
    if changed:
        raise DataError(
            f"The data must be as the run read them, which {run.path / SPLITS} says. Received: "
            f"{splits.info.summary()}, with other {' and '.join(changed)}. Bring back the data as "
            "they were, or train anew."
        )
    prepared = task.preprocess(splits, run.recipe, lambda done, total: None)
    return OpenedModel(_load(run.path / MODEL), prepared, splits.info)


def require_same_score(run: FinishedRun, figures: Mapping[str, Any]) -> None:
    """Checks that the trained model does on the test split what the run's report says.

    Another score means that the examples, or the model, are not what they were. One example more or
    less may be another machine's rounding.

    Raises:
      DataError: If it does not.
    """
    name, now = run.recipe.task.score(figures)
    then = run.report["test"][name]["value"]
    if abs(now - then) > max(_SAME_SCORE, 1.5 / figures["examples"]):
        raise DataError(
            f"The trained model must do on the test split what the report of its run says: {name} "
            f"{then:.4f}. Received: {now:.4f}. The data or {MODEL} in {str(run.path)!r} are not "
            "what they were. Bring back both, or train anew."
        )


def _load(path: Path) -> keras.Model:
    import keras
    import keras_hub  # noqa: F401  its layers are found by their names

    from sft_keras.backbones import text  # noqa: F401  and so are those of this package
    from sft_keras.backbones.layers import iter_layers

    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError) as error:
        raise RunFolderError(
            f"{path} must be a model as the run saved it. It cannot be loaded: {error}"
        ) from error
    halves = {layer.compute_dtype for layer in iter_layers(model)} - {"float32"}
    halves = {dtype for dtype in halves if "float" in dtype}
    if halves:
        raise RunFolderError(
            "These files are made of models that compute in float32. Received: a model that "
            f"computes in {', '.join(sorted(halves))}, as GPUs do where a recipe does not say. "
            "Train with --set=precision=float32."
        )
    return model
