"""Facts about a run beside its results: what ran, on what, and how long each part took."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator
from typing import Any

from sft_keras.data.examples import DataInfo
from sft_keras.environment import environment
from sft_keras.recipe_loader import LoadedRecipe, as_plain
from sft_keras.staged_model import StagedModel
from sft_keras.stages import count_parameters


class Clock:
    """Adds up the seconds of each part of a run."""

    def __init__(self) -> None:
        self.started = datetime.datetime.now(datetime.UTC)
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times a block as `part`."""
        began = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - began

    def as_json(self) -> dict[str, float]:
        """Returns the seconds of each part and in total."""
        return {**self.seconds, "total": time.perf_counter() - self._began}


def about_run(
    loaded: LoadedRecipe,
    smoke: bool,
    command: str,
    clock: Clock,
    info: DataInfo,
    staged: StagedModel,
) -> dict[str, Any]:
    """Returns what report.json says of a run beside its results, as plain values."""
    backbone = loaded.recipe.backbone
    return {
        "format": 1,
        "smoke": smoke,
        "title": loaded.name,
        "description": loaded.description,
        "command": command,
        "recipe": as_plain(loaded.recipe),
        "environment": environment(),
        "started": clock.started.isoformat(timespec="seconds"),
        "seconds": clock.as_json(),
        "data": info.as_json(),
        "model": {
            "preset": backbone.preset,
            "weights": backbone.weights,
            "reads": loaded.recipe.task.input_in_words(loaded.recipe),
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
