"""Runs one stage: freeze, new optimizer, compile, train, audit, keep the best.

Knows no task: it gets a model, what to compile it with, and batches.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from sft_keras.adapters import layers_to_adapt
from sft_keras.best_weights import BestWeights
from sft_keras.devices import ONE_DEVICE, Devices
from sft_keras.errors import LossError
from sft_keras.freezing import (
    Audit,
    audit_stage,
    fingerprints,
    may_move,
    set_trainable,
    trained_batch_norms,
)
from sft_keras.keeper import Keeper
from sft_keras.optimizers import build_optimizer, build_schedule
from sft_keras.recipe import Stage
from sft_keras.snapshot import Snapshot
from sft_keras.stage_loop import Left, Length, Note, Position, StageLoop, of_the_stage, unnoted
from sft_keras.staged_model import StagedModel
from sft_keras.steps import OutputWatch, Steps
from sft_keras.watch import Watch


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
    the validation figures of before the stage; None where they were not asked for. `warnings` say
    what a person should know of how it went.
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
    warnings: tuple[str, ...] = ()

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
    training: Callable[[int], tf.data.Dataset],
    validation: tf.data.Dataset,
    say: Callable[[str], None],
    tick: Callable[[str], None],
    has_start: bool,
    from_boundary: bool = False,
    output_watches: Sequence[OutputWatch] = (),
    keeper: Keeper | None = None,
    resumed: Snapshot | None = None,
    devices: Devices = ONE_DEVICE,
    note: Note = unnoted,
    left: Left = of_the_stage,
) -> StageResult:
    """Trains a stage and leaves the best epoch's weights in the model.

    Args:
      staged: The model; changed in place.
      stage: What trains, and how.
      length: From `stage_length`.
      loss: Between the batches' y and the logits.
      metrics: Figures to watch.
      training: From a number of batches to the (x, y, sample weight) batches after so many, as many
        as the stage takes or more.
      validation: (x, y) batches.
      say: Takes a line to show and log.
      tick: Takes a line to show for a moment, on a terminal.
      has_start: Whether the weights at the start are worth keeping, as they are after an earlier
        stage or pretraining: then they are validated too, as epoch 0, and stay if no epoch is
        better.
      from_boundary: Whether the batches' x is what the frozen blocks give, and not raw features.
      output_watches: See what the model says of validation examples.
      keeper: Takes the checkpoints; None for none.
      resumed: The checkpoint of `keeper` to go on from, within this stage; None to begin it.
      devices: What it trains on; `training` and `validation` are what all of them see together.
      note: Takes the figures of each epoch.
      left: Says how long training goes on.

    Raises:
      LossError: If a loss or gradient became NaN or infinite; the best weights so far are restored.
      AuditError: If something moved that was frozen, or nothing moved.
      KeyboardInterrupt: If the run is to end; a checkpoint is written.
    """
    with devices.scope():
        model = prepare_stage(staged, stage, length.steps, loss, metrics, from_boundary)
    devices.prepare(model.optimizer)
    free = may_move(staged, stage)
    rate = build_schedule(stage.learning_rate, stage.schedule, stage.warmup, length.steps)
    watch = Watch(stage, rate)
    if resumed is None:
        before = fingerprints(staged)
    else:
        before = dict(resumed.facts["before"])
        keeper.restore(resumed)
    best = BestWeights(stage, free)
    first = training(0 if resumed is None else resumed.facts["within"]["position"]["step"])
    steps = Steps(
        model,
        loss,
        metrics,
        batch=first.element_spec,
        validation_batch=validation.element_spec,
        watch=watch,
        output_watches=output_watches,
        devices=devices,
    )
    loop = StageLoop(
        stage,
        length,
        model,
        steps=steps,
        watch=watch,
        best=best,
        training=first,
        validation=validation,
        rate=rate,
        say=say,
        tick=tick,
        note=note,
        left=left,
    )
    if resumed is not None:
        loop.go_on(Snapshot(resumed.facts["within"], resumed.arrays))
    if keeper is not None:
        keeper.begin_stage(before, free)
    try:
        with devices.synchronized(trained_batch_norms(staged, stage)):
            loop.run(has_start, keeper)
    except LossError:
        best.restore()
        raise
    finally:
        clear_penalties(staged)
    audit = audit_stage(staged, stage, before)
    best.restore()
    require_same_weights(staged, devices, f"after stage {stage.name!r}")
    return _result(staged, stage, model, loop.position, best, audit)


def require_same_weights(staged: StagedModel, devices: Devices, when: str) -> None:
    """Checks that all workers hold the same weights bit for bit.

    Raises:
      ClusterError: If one does not: what they trained was not one model.
    """
    if devices.processes > 1:
        devices.require_same(f"weights {when}", json.dumps(fingerprints(staged)))


def _result(
    staged: StagedModel,
    stage: Stage,
    model: keras.Model,
    position: Position,
    best: BestWeights,
    audit: Audit,
) -> StageResult:
    patience_out = f"no better {stage.monitor} for {stage.patience} epochs"
    adapter = None
    if stage.adapter is not None:
        layers = layers_to_adapt(staged.backbone, stage)
        adapter = {"rank": stage.adapter.rank, "layers": len(layers)}
    return StageResult(
        name=stage.name,
        unfreeze=stage.unfreeze,
        learning_rate=stage.learning_rate,
        epochs_run=position.epoch,
        steps=position.step,
        seconds=position.seconds,
        stopped=patience_out if best.is_patience_out else "ran all its epochs",
        best_epoch=best.epoch,
        trainable_parameters=count_parameters(model.trainable_variables),
        total_parameters=count_parameters(staged.model.weights),
        history=position.history,
        audit=audit,
        adapter=adapter,
        start=position.start,
        warnings=tuple(position.warnings),
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
