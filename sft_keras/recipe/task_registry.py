"""The registry of tasks, each imported only when it is used. Standard library only."""

from __future__ import annotations

import importlib

from sft_keras.recipe.task_config import TaskConfig

TASKS: dict[str, str] = {
    "ImageClassification": "sft_keras.tasks.image_classification.config",
    "MaskedLM": "sft_keras.tasks.masked_lm.config",
    "QuestionAnswering": "sft_keras.tasks.question_answering.config",
    "TextClassification": "sft_keras.tasks.text_classification.config",
    "TextMultiLabel": "sft_keras.tasks.text_classification.config",
    "TextRegression": "sft_keras.tasks.text_classification.config",
    "TokenClassification": "sft_keras.tasks.token_classification.config",
}
"""{kind: module}; the kind is the name of the task's class, in recipes and in JSON."""


def task_class(kind: str) -> type[TaskConfig]:
    """Import and return the class of a task.

    Raises:
      KeyError: If no task of that kind is registered.
    """
    cls: type[TaskConfig] = getattr(importlib.import_module(TASKS[kind]), kind)
    return cls
