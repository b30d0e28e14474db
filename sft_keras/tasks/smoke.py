"""What `--smoke` makes of a stage, whatever the task. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sft_keras.recipe import Stage


def short_stage(stage: Stage) -> Stage:
    """Returns a stage of two updates; a range test would find nothing to go by in noise."""
    return dataclasses.replace(
        stage,
        epochs=None,
        steps=2 * stage.accumulate,
        class_weights=None,
        learning_rate=1e-3 if stage.learning_rate == "auto" else stage.learning_rate,
    )
