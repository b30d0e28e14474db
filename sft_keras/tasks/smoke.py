"""Smoke runs: recipes reduced to a few steps on synthetic data. Standard library only."""

from __future__ import annotations

import dataclasses

from sft_keras.recipe.stage import Stage


def smoke_stage(stage: Stage) -> Stage:
    """Return the stage shortened to two updates, for `TaskConfig.smoke_recipe`.

    "auto" learning rates become 1e-3: a learning-rate finder has nothing to find in noise.
    """
    return dataclasses.replace(
        stage,
        epochs=None,
        steps=2 * stage.accumulate,
        class_weights=None,
        learning_rate=1e-3 if stage.learning_rate == "auto" else stage.learning_rate,
    )
