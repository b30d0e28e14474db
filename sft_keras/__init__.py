"""Staged supervised fine-tuning of pretrained Keras models.

The public names load lazily: importing this package does not import TensorFlow.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Before TensorFlow and Keras are first imported: this package is written for the TensorFlow
# backend, and the start-up notes of TensorFlow's libraries would bury what a run says.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

__version__ = "0.1.0"

_HOMES = {
    "Arrays": "sft_keras.data.arrays",
    "Backbone": "sft_keras.recipe",
    "Checkpointing": "sft_keras.recipe",
    "Data": "sft_keras.recipe",
    "LoRA": "sft_keras.recipe",
    "Questions": "sft_keras.data.question_lists",
    "Recipe": "sft_keras.recipe",
    "Stage": "sft_keras.recipe",
    "Store": "sft_keras.recipe",
    "TaggedWords": "sft_keras.data.word_lists",
    "Texts": "sft_keras.data.text_lists",
    "Result": "sft_keras.result",
    "finetune": "sft_keras.finetuning",
    "list_recipes": "sft_keras.recipe_loader",
    "load_recipe": "sft_keras.recipe_loader",
}

__all__ = [
    "Arrays",
    "Backbone",
    "Checkpointing",
    "Data",
    "LoRA",
    "Questions",
    "Recipe",
    "Result",
    "Stage",
    "Store",
    "TaggedWords",
    "Texts",
    "finetune",
    "list_recipes",
    "load_recipe",
]

if TYPE_CHECKING:
    from sft_keras.data.arrays import Arrays
    from sft_keras.data.question_lists import Questions
    from sft_keras.data.text_lists import Texts
    from sft_keras.data.word_lists import TaggedWords
    from sft_keras.finetuning import finetune
    from sft_keras.recipe import Backbone, Checkpointing, Data, LoRA, Recipe, Stage, Store
    from sft_keras.recipe_loader import list_recipes, load_recipe
    from sft_keras.result import Result


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sft_keras' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
