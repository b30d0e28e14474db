"""The task of an exported model, stored beside it. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.errors import RecipeError, RunFolderError
from sft_keras.core.files import read_json, reading_run_file
from sft_keras.export.paths import SAVED_MODEL
from sft_keras.recipe.json_file import task_from_plain
from sft_keras.recipe.loader import to_plain
from sft_keras.recipe.task_config import TaskConfig
from sft_keras.runs.folder import RECIPE

TASK = "task.json"
_EARLIER_ARGUMENTS = ("image_bytes", "texts", "text_pairs", "questions", "contexts")
"""Arguments, in order, of models that were exported before their task was stored beside them."""


@dataclasses.dataclass(frozen=True)
class ServedTask:
    """What an exported model does.

    Attributes:
      config: The configuration of its task.
      arguments: The arguments of "serving_default" in the order in which users give them.
    """

    config: TaskConfig
    arguments: tuple[str, ...]


def task_json(config: TaskConfig, arguments: Sequence[str]) -> str:
    """Return the contents of assets/task.json for an export."""
    values = {"format": 1, "task": to_plain(config), "arguments": list(arguments)}
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"


def read_served_task(run: str | Path, arguments: Sequence[str]) -> ServedTask:
    """Read the task of a run's exported model.

    Args:
      run: The run folder.
      arguments: The arguments of the signature, in any order.

    Raises:
      RunFolderError: If the task is unknown, or its file is invalid.
    """
    folder = Path(run).expanduser()
    file, recipe = folder / SAVED_MODEL / "assets" / TASK, folder / RECIPE
    if file.is_file():
        with reading_run_file(file):
            values: Any = read_json(file)
            plain, names = values["task"], tuple(map(str, values["arguments"]))
    else:
        with reading_run_file(recipe):
            plain = read_json(recipe)["task"]
            names = tuple(name for name in _EARLIER_ARGUMENTS if name in arguments)
        file = recipe
    try:
        config = task_from_plain(plain)
    except RecipeError as error:
        raise RunFolderError(f"{file}: {error}") from error
    if set(names) != set(arguments):
        raise RunFolderError(
            f"{file} must name the arguments of the exported model, {', '.join(arguments)}. "
            f"Received: {', '.join(names)}."
        )
    return ServedTask(config, names)
