"""Facts about a run beside its results: what ran, and on what."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from sft_keras.clock import Clock
from sft_keras.data.examples import DataInfo
from sft_keras.environment import environment
from sft_keras.recipe import Recipe
from sft_keras.recipe_loader import LoadedRecipe, as_plain
from sft_keras.staged_model import StagedModel
from sft_keras.stages import count_parameters


def about_start(loaded: LoadedRecipe, smoke: bool, command: str) -> dict[str, Any]:
    """Returns how a run was begun, which one that goes on with it could not know."""
    return {
        "smoke": smoke,
        "title": loaded.name,
        "description": loaded.description,
        "command": command,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def about_run(
    recipe: Recipe,
    began: Mapping[str, Any],
    clock: Clock,
    info: DataInfo,
    staged: StagedModel,
) -> dict[str, Any]:
    """Returns what report.json says of a run beside its results, as plain values."""
    backbone = recipe.backbone
    return {
        "format": 1,
        **began,
        "recipe": as_plain(recipe),
        "environment": environment(),
        "seconds": clock.as_json(),
        "data": info.as_json(),
        "model": {
            "preset": backbone.preset,
            "weights": backbone.weights,
            "reads": recipe.task.input_in_words(recipe),
            "parameters": count_parameters(staged.model.weights),
            "blocks": [
                {
                    "name": block.name,
                    "layers": len(block.layers),
                    "parameters": sum(layer.count_params() for layer in block.layers),
                }
                for block in staged.backbone.blocks
            ],
        },
        "notes": [],
    }
