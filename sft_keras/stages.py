"""Runs one stage: freeze, new optimizer, compile, fit, audit, keep the best.

Knows no task: it gets a model, what to compile it with, and batches.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from sft_keras.adapters import layers_to_adapt
from sft_keras.callbacks import BestWeights, Progress, StopOnBadLoss
from sft_keras.errors import LossError
from sft_keras.freezing import Audit, audit_stage, fingerprints, may_move, set_trainable
from sft_keras.optimizers import build_optimizer, build_schedule
from sft_keras.recipe import Stage
from sft_keras.staged_model import StagedModel


@dataclasses.dataclass(frozen=True)
class Length:
    """How long a stage is: `epochs` rounds of `steps_per_epoch` batches, each then validated."""

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Batches in the whole stage."""
        return self.epochs * self.steps_per_epoch


def stage_length(stage: Stage, examples: int, batch_size: int) -> Length:
    """Returns a stage's length on so many training examples.

    A stage given in `steps` is validated about once a pass over the data; where the rounds do not
    come out even, `steps` is rounded up.
    """
    in_a_pass = math.ceil(examples / batch_size)
    if stage.epochs is not None:
        return Length(stage.epochs, in_a_pass)
    rounds = math.ceil(stage.steps / in_a_pass)
    return Length(rounds, math.ceil(stage.steps / rounds))


@dataclasses.dataclass(frozen=True)
class StageResult:
    """What a stage did; see the fields' names.

    `history` has a value an epoch for each figure. `adapter` says of which rank the adapters were
    that trained in place of the blocks' own weights, in how many layers; None without. `start` has
    the validation figures of before the stage; None where they were not asked for.
    """

    name: str
    unfreeze: int | Literal["all"]
    learning_rate: float
    epochs_run: int
    steps: int
    seconds: float
    stopped: str
    best_epoch: int
    trainable_parameters: int
    total_parameters: int
    history: dict[str, list[float]]
    audit: Audit
    adapter: dict[str, Any] | None = None
    start: dict[str, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        return {**dataclasses.asdict(self), "audit": self.audit.as_json()}


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
    made = staged.from_boundary if from_boundary else staged.for_stage
    model = made(stage.unfreeze)
    model.compile(
        optimizer=build_optimizer(stage, staged, steps),
        loss=loss,
        metrics=list(metrics),
    )
    # Else its variables are made while the first step is traced, which is then traced again.
    model.optimizer.build(model.trainable_variables)
    return model


def run_stage(
    staged: StagedModel,
    stage: Stage,
    *,
    length: Length,
    loss: keras.losses.Loss,
    metrics: Sequence[keras.metrics.Metric],
    training: tf.data.Dataset,
    validation: tf.data.Dataset,
    say: Callable[[str], None],
    tick: Callable[[str], None],
    has_start: bool,
    from_boundary: bool = False,
) -> StageResult:
    """Trains a stage and leaves the best epoch's weights in the model.

    Args:
      staged: The model; changed in place.
      stage: What trains, and how.
      length: From `stage_length`.
      loss: Between the batches' y and the logits.
      metrics: Figures to watch.
      training: (x, y, sample weight) batches, as many as the stage takes or more.
      validation: (x, y) batches.
      say: Takes a line to show and log.
      tick: Takes a line to show for a moment, on a terminal.
      has_start: Whether the weights at the start are worth keeping, as they are after an earlier
        stage or pretraining: then they are validated too, as epoch 0, and stay if no epoch is
        better.
      from_boundary: Whether the batches' x is what the frozen blocks give, and not raw features.

    Raises:
      LossError: If the loss became NaN or infinite; the best weights so far are restored.
      AuditError: If something moved that was frozen, or nothing moved.
    """
    model = prepare_stage(staged, stage, length.steps, loss, metrics, from_boundary)
    free = may_move(staged, stage)
    best = BestWeights(stage, free.values())
    rate = build_schedule(stage.learning_rate, stage.schedule, stage.warmup, length.steps)
    callbacks = [
        StopOnBadLoss(stage, rate),
        best,
        Progress(stage, length.epochs, rate, say, tick),
    ]
    if stage.ema is not None:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    before = fingerprints(staged)
    began = time.perf_counter()
    start = None
    if has_start:
        best.set_model(model)
        start = model.evaluate(validation, verbose=0, return_dict=True)
        best.on_test_end(start)
    try:
        history = model.fit(
            training,
            epochs=length.epochs,
            steps_per_epoch=length.steps_per_epoch,
            validation_data=validation,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
    except LossError:
        best.restore()
        raise
    finally:
        clear_penalties(staged)
    audit = audit_stage(staged, stage, before)
    best.restore()
    epochs_run = len(history.epoch)
    return StageResult(
        name=stage.name,
        unfreeze=stage.unfreeze,
        learning_rate=stage.learning_rate,
        epochs_run=epochs_run,
        steps=epochs_run * length.steps_per_epoch,
        seconds=time.perf_counter() - began,
        stopped=(
            f"no better {stage.monitor} for {stage.patience} epochs"
            if best.stopped_early
            else "ran all its epochs"
        ),
        best_epoch=best.best_epoch,
        trainable_parameters=count_parameters(model.trainable_variables),
        total_parameters=count_parameters(staged.model.weights),
        history={name: [float(v) for v in values] for name, values in history.history.items()},
        audit=audit,
        adapter=None
        if stage.adapter is None
        else {
            "rank": stage.adapter.rank,
            "layers": len(layers_to_adapt(staged.backbone, stage)),
        },
        start=None if start is None else {name: float(value) for name, value in start.items()},
    )


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


def count_parameters(variables: Sequence[keras.Variable]) -> int:
    """Returns how many numbers the variables hold."""
    return sum(math.prod(variable.shape) for variable in variables)
