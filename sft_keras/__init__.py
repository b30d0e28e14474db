"""Staged supervised fine-tuning of pretrained Keras models.

The public names load lazily: importing this package does not import TensorFlow.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from sft_keras.core.versions import __version__

# These take effect when TensorFlow and Keras are first imported: the package requires the
# TensorFlow backend, and TensorFlow's start-up messages would bury the log of a run.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_MODULES = {
    "Arrays": "sft_keras.vision.sources.arrays",
    "Backbone": "sft_keras.recipe.backbone",
    "Checkpointing": "sft_keras.recipe.storage",
    "Data": "sft_keras.recipe.data",
    "LoRA": "sft_keras.recipe.stage",
    "Questions": "sft_keras.tasks.question_answering.in_memory",
    "Recipe": "sft_keras.recipe.recipe",
    "Stage": "sft_keras.recipe.stage",
    "Store": "sft_keras.recipe.storage",
    "TaggedWords": "sft_keras.tasks.token_classification.in_memory",
    "Texts": "sft_keras.text.sources.in_memory",
    "Result": "sft_keras.runs.result",
    "finetune": "sft_keras.pipeline.finetune",
    "list_recipes": "sft_keras.recipe.loader",
    "load_recipe": "sft_keras.recipe.loader",
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
    "__version__",
    "finetune",
    "list_recipes",
    "load_recipe",
]

if TYPE_CHECKING:
    from sft_keras.pipeline.finetune import finetune
    from sft_keras.recipe.backbone import Backbone
    from sft_keras.recipe.data import Data
    from sft_keras.recipe.loader import list_recipes, load_recipe
    from sft_keras.recipe.recipe import Recipe
    from sft_keras.recipe.stage import LoRA, Stage
    from sft_keras.recipe.storage import Checkpointing, Store
    from sft_keras.runs.result import Result
    from sft_keras.tasks.question_answering.in_memory import Questions
    from sft_keras.tasks.token_classification.in_memory import TaggedWords
    from sft_keras.text.sources.in_memory import Texts
    from sft_keras.vision.sources.arrays import Arrays


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'sft_keras' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
