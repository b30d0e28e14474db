"""The registry of tasks, each imported only when it is used. Standard library only.

Other packages add tasks by the entry point group "sft_keras.tasks", e.g. in pyproject.toml:

    [project.entry-points."sft_keras.tasks"]
    CountObjects = "my_package.counting.config:CountObjects"
"""

from __future__ import annotations

import functools
import importlib
import sys
from importlib import metadata

from sft_keras.core.errors import RecipeError
from sft_keras.recipe.section import did_you_mean
from sft_keras.recipe.task_config import TaskConfig

ENTRY_POINTS = "sft_keras.tasks"
"""The group of entry points that name the tasks of other packages."""

TASKS: dict[str, str] = {
    "ImageClassification": "sft_keras.tasks.image_classification.config",
    "MaskedLM": "sft_keras.tasks.masked_lm.config",
    "QuestionAnswering": "sft_keras.tasks.question_answering.config",
    "TextClassification": "sft_keras.tasks.text_classification.config",
    "TextMultiLabel": "sft_keras.tasks.text_classification.config",
    "TextRegression": "sft_keras.tasks.text_classification.config",
    "TokenClassification": "sft_keras.tasks.token_classification.config",
}
"""{kind: module} of the built-in tasks; the kind is the name of the configuration's class."""


def task_kinds() -> tuple[str, ...]:
    """Return the kinds of all registered tasks, built-in ones first."""
    return tuple(_registered())


def task_kind(config: TaskConfig) -> str:
    """Return the kind of a task, which names it in JSON.

    Returns:
      The registered name, or "module:name" of the class of a task that is not registered.

    Example:
      >>> from sft_keras.tasks import MaskedLM
      >>> task_kind(MaskedLM())
      'MaskedLM'
    """
    cls = type(config)
    path = f"{cls.__module__}:{cls.__qualname__}"
    return next((kind for kind, target in _registered().items() if target == path), path)


def task_class(kind: str) -> type[TaskConfig]:
    """Return the configuration class of a task.

    A kind "module:name" is looked up only among the modules that are already imported: a file with
    a recipe must not be able to import code.

    Args:
      kind: As returned by `task_kind`.

    Raises:
      RecipeError: If there is no such task.
    """
    target = _registered().get(kind)
    if target is not None:
        module, _, name = target.partition(":")
        cls = getattr(importlib.import_module(module), name)
    else:
        module, _, name = kind.partition(":")
        cls = getattr(sys.modules.get(module), name, None) if name else None
    if isinstance(cls, type) and issubclass(cls, TaskConfig):
        return cls
    if target is None and ":" in kind:
        raise RecipeError(
            f"The task {kind!r} is not registered and its module is not imported. Pass the recipe "
            "file that defines it, import the module first, or register the task by an entry point "
            f"of the group {ENTRY_POINTS!r}."
        )
    if target is None:
        raise RecipeError(
            f"There is no task {kind!r}.{did_you_mean(kind, _registered())} Registered: "
            f"{', '.join(_registered())}."
        )
    raise RecipeError(
        f"The task {kind!r}, registered as {target!r}, must be a subclass of "
        f"sft_keras.recipe.task_config.TaskConfig. Received: {cls!r}."
    )


@functools.cache
def _registered() -> dict[str, str]:
    """Return {kind: "module:name"}; the built-in tasks cannot be replaced."""
    built_in = {kind: f"{module}:{kind}" for kind, module in TASKS.items()}
    found = {entry.name: entry.value for entry in metadata.entry_points(group=ENTRY_POINTS)}
    return {**built_in, **{kind: path for kind, path in found.items() if kind not in built_in}}
