"""The export formats. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sft_keras.core.errors import RecipeError, numbered
from sft_keras.export import paths
from sft_keras.recipe.section import did_you_mean

if TYPE_CHECKING:
    from sft_keras.recipe.recipe import Recipe


PART = ".part-"
"""The prefix of the names of files that have not been verified yet."""


@dataclasses.dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
      name: The name on the command line.
      file: The path of the exported file, relative to the run folder.
      runtime: The runtime that verifies it, see `runtime_probe`.
      extra: The extra of this package with its dependencies; "" for none.
      modules: The modules that the extra installs.
      is_quantized: Whether it computes in integers, so that its outputs may differ.
    """

    name: str
    file: str
    runtime: str
    extra: str = ""
    modules: tuple[str, ...] = ()
    is_quantized: bool = False


SAVED_MODEL = Format("saved_model", paths.SAVED_MODEL, "tensorflow")
LITERT = Format("litert", "exports/model.tflite", "litert", "litert", ("ai_edge_litert",))
LITERT_INT8 = dataclasses.replace(
    LITERT, name="litert_int8", file="exports/model_int8.tflite", is_quantized=True
)
ONNX = Format("onnx", "exports/model.onnx", "onnx", "onnx", ("tf2onnx", "onnx", "onnxruntime"))

FORMATS = {target.name: target for target in (SAVED_MODEL, LITERT, LITERT_INT8, ONNX)}


def select_formats(names: Sequence[str]) -> list[Format]:
    """Return the formats with these names, without duplicates, in the order of `FORMATS`.

    Raises:
      RecipeError: `names` is empty, or a name is unknown.
    """
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        hint = did_you_mean(unknown[0], FORMATS) if unknown else ""
        raise RecipeError(
            f"--format must be a list of formats, separated by commas: {', '.join(FORMATS)}. "
            f"Received: {', '.join(names)!r}.{hint}"
        )
    return [target for name, target in FORMATS.items() if name in names]


def require_exportable(formats: Sequence[Format], recipe: Recipe) -> None:
    """Check everything that can be checked before anything is computed.

    Raises:
      RecipeError: Formats are not supported for the recipe's task, or their
        dependencies are not installed. The message lists all faults.
    """
    converted = [target for target in formats if target is not SAVED_MODEL]
    faults = []
    for target in formats:
        reason = recipe.task.export_limitation(target.is_quantized)
        if reason is not None:
            task = type(recipe.task).__name__
            faults.append(f"{target.name} is not supported for {task}: {reason}")
    missing = {
        target.extra: [name for name in target.modules if importlib.util.find_spec(name) is None]
        for target in converted
    }
    faults += [
        f"{', '.join(names)} must be installed: pip install 'sft_keras[{extra}]'"
        for extra, names in missing.items()
        if names
    ]
    if faults:
        raise RecipeError(numbered("The run cannot be exported to these formats.", faults))
