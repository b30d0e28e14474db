"""Restores a finished run: its recipe, its model, and its data as they were."""

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
_REQUIRED_FILES = (MODEL, RECIPE, SPLITS, REPORT)
_PYTHON_SOURCES = ("Arrays", "Texts", "TaggedWords", "Questions")
_SCORE_TOLERANCE = 0.005
_HALF_SCORE_TOLERANCE = 0.02  # bfloat16 has two digits, so close decisions differ
_HALF_POLICIES = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """The metadata of a finished run.

    Attributes:
      path: The run folder.
      recipe: The recipe of the run.
      report: The contents of report.json.
    """

    path: Path
    recipe: Recipe
    report: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class RestoredRun:
    """The trained model of a run, with its data.

    Attributes:
      model: The trained model; it computes in float32.
      prepared: The preprocessed splits by name.
      info: Facts about the data.
      half_precision: The type that the run computed in, if that is not float32.
    """

    model: keras.Model
    prepared: Mapping[str, Prepared]
    info: DataInfo
    half_precision: str = ""


def read_run(run: str | Path) -> FinishedRun:
    """Read the metadata of a finished run, without importing TensorFlow.

    Raises:
      RunFolderError: `run` is not the folder of a finished run, or its data were passed from
        Python and so cannot be read again.
    """
    path = Path(run).expanduser()
    missing = [name for name in _REQUIRED_FILES if not (path / name).is_file()]
    if missing or not is_finished(path):
        fault = f"lacks {', '.join(missing)}" if missing else "was stopped before it finished"
        raise RunFolderError(
            f"--run must be the folder of a finished run. Received: {str(run)!r}, which {fault}."
        )
    report = read_json(path / REPORT)
    source = report.get("data", {}).get("source", "") if isinstance(report, dict) else ""
    if source.split("(")[0] in _PYTHON_SOURCES:
        raise RunFolderError(
            "Only a run whose data can be read again from files can be exported. Received: "
            f"{source}, which was passed from Python, in {str(run)!r}. Write the data to files and "
            "run the recipe on them."
        )
    return FinishedRun(path, load_recipe(path / RECIPE).recipe, report)


def restore_run(run: FinishedRun) -> RestoredRun:
    """Load the model and the data of a run.

    Raises:
      DataError: The data cannot be read, or their classes or splits have changed.
      RunFolderError: The model cannot be loaded.
    """
    from sft_keras.tasks.base import build_task

    task = build_task(run.recipe)
    splits = task.open_data(run.recipe.seed)
    current, recorded = splits.as_json(), read_json(run.path / SPLITS)
    changed = [name for name in ("class_names", "ids") if current[name] != recorded.get(name)]
    if changed:
        raise DataError(
            f"The data must be those of the run, as recorded in {run.path / SPLITS}. Received: "
            f"{splits.info.summary()}, with different {' and '.join(changed)}. Restore the data, "
            "or train again."
        )
    prepared = task.preprocessor.preprocess(splits, lambda done, total: None)
    model, half_precision = _load(run.path / MODEL)
    return RestoredRun(model, prepared, splits.info, half_precision)


def require_same_score(
    run: FinishedRun, metrics: Mapping[str, Any], half_precision: str = ""
) -> None:
    """Check that the restored model reaches the test score in the report of its run.

    A different score means that the examples or the model have changed. A difference of one
    example is tolerated, since other machines round differently.

    Args:
      run: The finished run.
      metrics: The metrics of the restored model on the test split.
      half_precision: The type that the run computed in, if that is not float32.

    Raises:
      DataError: The scores differ.
    """
    name = run.recipe.task.score.name
    current = metrics[name]["value"]
    reported = run.report["test"][name]["value"]
    tolerance = _HALF_SCORE_TOLERANCE if half_precision else _SCORE_TOLERANCE
    if abs(current - reported) > max(tolerance, 1.5 / metrics["examples"]):
        raise DataError(
            f"The model must reach the test score in the report of its run: {name} "
            f"{reported:.4f}. Received: {current:.4f}. The data or {MODEL} in {str(run.path)!r} "
            "have changed. Restore both, or train again."
        )


def _load(path: Path) -> tuple[keras.Model, str]:
    """Return the model in float32, and the half-precision type that it was trained in, or ""."""
    import keras
    import keras_hub  # noqa: F401  registers its layers for deserialization

    from sft_keras.backbones import text  # noqa: F401  registers those of this package

    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError) as error:
        raise RunFolderError(
            f"{path} must be the model that the run saved. It cannot be loaded: {error}"
        ) from error
    half_precision = half_precision_of(model)
    if not half_precision:
        return model, ""
    return in_float32(model), half_precision


def half_precision_of(model: keras.Model) -> str:
    """Return the half-precision types that a model computes in, or ""."""
    from sft_keras.backbones.layers import iter_layers

    dtypes = {layer.compute_dtype for layer in iter_layers(model)}
    return ", ".join(sorted(dtypes & {"bfloat16", "float16"}))


def in_float32(model: keras.Model) -> keras.Model:
    """Return a copy of a model with mixed precision that computes in float32.

    LiteRT and ONNX have no bfloat16 kernels for most operations. The weights of mixed precision are
    float32 already, so the copy has the same ones.
    """
    import keras

    config = _with_float32_policies(keras.saving.serialize_keras_object(model))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # of layers that others create without a policy
    try:
        copy = keras.saving.deserialize_keras_object(config)
    finally:
        keras.config.set_dtype_policy(before)
    copy.set_weights(model.get_weights())
    return copy


def _with_float32_policies(config: Any) -> Any:
    """Return a model's configuration with "float32" in place of half-precision policies."""
    if isinstance(config, Mapping):
        return {key: _with_float32_policies(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_with_float32_policies(value) for value in config)
    return "float32" if config in _HALF_POLICIES else config
