"""The tasks that a recipe may name, found without importing them. Standard library only."""

from __future__ import annotations

import importlib

from sft_keras.recipe.task_config import TaskConfig

TASKS: dict[str, str] = {
    "ImageClassification": "sft_keras.tasks.image_classification.task",
    "MaskedLM": "sft_keras.tasks.masked_lm.task",
    "QuestionAnswering": "sft_keras.tasks.question_answering.task",
    "TextClassification": "sft_keras.tasks.text_classification.single_label",
    "TextMultiLabel": "sft_keras.tasks.text_classification.multi_label",
    "TextRegression": "sft_keras.tasks.text_classification.regression",
    "TokenClassification": "sft_keras.tasks.token_classification.task",
}
"""{kind, the name of the class: its module}."""


def task_class(kind: str) -> type[TaskConfig]:
    """Return the class of a task.

    Raises:
      KeyError: If no task of that kind is registered.
    """
    return getattr(importlib.import_module(TASKS[kind]), kind)
