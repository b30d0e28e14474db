"""The formats that a finished run can be had in. Does not import TensorFlow."""

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
"""How the names of files begin that are not known to be good yet."""


@dataclasses.dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
      name: What the command calls it.
      file: Where it is in the run folder.
      runtime: What it is asked by, see `asking`.
      extra: The extra of this package that brings what it needs; "" for none.
      modules: What the extra must have brought.
      is_quantized: Whether it computes in integers, so that it may answer otherwise.
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

FORMATS = {each.name: each for each in (SAVED_MODEL, LITERT, LITERT_INT8, ONNX)}


def chosen_formats(names: Sequence[str]) -> list[Format]:
    """Returns the formats of these names, each once, in the order of `FORMATS`.

    Raises:
      RecipeError: If there are none, or there is no format of a name.
    """
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        hint = did_you_mean(unknown[0], FORMATS) if unknown else ""
        raise RecipeError(
            f"--format must name formats, with commas between them: {', '.join(FORMATS)}. "
            f"Received: {', '.join(names)!r}.{hint}"
        )
    return [each for name, each in FORMATS.items() if name in names]


def require_possible(formats: Sequence[Format], recipe: Recipe) -> None:
    """Checks all that shows before anything is computed.

    Raises:
      RecipeError: Listing the formats that cannot be had of the recipe's task, or for which what
        they need is not installed.
    """
    made = [each for each in formats if each is not SAVED_MODEL]
    faults = []
    for each in formats:
        reason = recipe.task.export_limitation(each.is_quantized)
        if reason is not None:
            faults.append(f"{each.name} cannot be had of {type(recipe.task).__name__}: {reason}")
    # What "auto" was on the machine of the run is in the model, and looked at when it is loaded.
    if made and recipe.precision not in ("auto", "float32"):
        faults.append(
            "These files are made of models that compute in float32. Received: `precision` is "
            f"{recipe.precision!r}. Train with --set=precision=float32."
        )
    missing = {
        each.extra: [name for name in each.modules if importlib.util.find_spec(name) is None]
        for each in made
    }
    faults += [
        f"{', '.join(names)} must be installed: pip install 'sft_keras[{extra}]'"
        for extra, names in missing.items()
        if names
    ]
    if faults:
        raise RecipeError(numbered("The run cannot be exported so.", faults))
