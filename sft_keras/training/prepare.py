"""Prepare a model for one stage: freeze, penalise, compile."""

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
    """Returns the stage's model, frozen and compiled: flags first, then a new optimizer.

    With `from_boundary` it takes what the frozen blocks give, else raw features.
    """
    set_trainable(staged, stage)
    set_penalties(staged, stage)
    made = staged.suffix_model if from_boundary else staged.stage_model
    model = made(stage.unfreeze)
    model.compile(
        optimizer=build_optimizer(stage, staged, steps),
        loss=loss,
        metrics=list(metrics),
    )
    # Else its variables are made while the first step is traced, which is then traced again.
    model.optimizer.build(model.trainable_variables)
    return model


def set_penalties(staged: StagedModel, stage: Stage) -> None:
    """Puts the stage's L1 and L2 penalties on the kernels that train.

    On the variables and not on the layers, whose configuration would carry them into what is saved.
    """
    clear_penalties(staged)
    if stage.l1 or stage.l2:
        penalty = keras.regularizers.L1L2(l1=stage.l1, l2=stage.l2)
        for variable in staged.model.trainable_variables:
            if len(variable.shape) > 1:
                variable.regularizer = penalty


def clear_penalties(staged: StagedModel) -> None:
    """Takes every penalty off, the ones a backbone came with included: they are the stage's."""
    for variable in staged.model.variables:
        variable.regularizer = None
