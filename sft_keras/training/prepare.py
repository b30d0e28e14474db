"""Prepare a model for one stage: freeze layers, set weight penalties, compile."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from sft_keras.models.staged import StagedModel
from sft_keras.recipe.stage import Stage
from sft_keras.training.freezing import set_trainable
from sft_keras.training.optimizers import build_optimizer


def prepare_stage(
    staged: StagedModel,
    stage: Stage,
    steps: int,
    loss: keras.losses.Loss,
    metrics: Sequence[keras.metrics.Metric],
    from_boundary: bool = False,
) -> keras.Model:
    """Return the stage's model, frozen and compiled: flags first, then a new optimizer.

    Args:
      staged: The model; its flags and penalties are changed.
      stage: The stage, with a numeric learning rate.
      steps: Number of batches that the stage trains on, for the schedule.
      loss: Loss between y and the logits.
      metrics: Metrics to compile with.
      from_boundary: Whether the model's input is cached features rather than raw inputs.
    """
    set_trainable(staged, stage)
    set_penalties(staged, stage)
    build = staged.suffix_model if from_boundary else staged.stage_model
    model = build(stage.unfreeze)
    model.compile(
        optimizer=build_optimizer(stage, staged, steps),
        loss=loss,
        metrics=list(metrics),
    )
    # Otherwise the first trace creates its variables, and the first step is traced twice.
    model.optimizer.build(model.trainable_variables)
    return model


def set_penalties(staged: StagedModel, stage: Stage) -> None:
    """Set the stage's L1 and L2 penalties on the trainable kernels.

    They are set on variables rather than layers, whose configuration would carry them into the
    saved model.
    """
    clear_penalties(staged)
    if stage.l1 or stage.l2:
        penalty = keras.regularizers.L1L2(l1=stage.l1, l2=stage.l2)
        for variable in staged.model.trainable_variables:
            if len(variable.shape) > 1:
                variable.regularizer = penalty


def clear_penalties(staged: StagedModel) -> None:
    """Remove every penalty, the pretrained backbone's too: penalties belong to stages."""
    for variable in staged.model.variables:
        variable.regularizer = None
