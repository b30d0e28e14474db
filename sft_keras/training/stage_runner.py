"""One stage from its compiled model to its result: train, audit, restore the best weights."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import keras
import tensorflow as tf

from sft_keras.backbones.layers import count_parameters
from sft_keras.core.errors import LossError
from sft_keras.core.reporter import Reporter
from sft_keras.distributed.devices import ONE_DEVICE, Devices
from sft_keras.models.lora import layers_to_adapt
from sft_keras.models.staged import StagedModel
from sft_keras.training.audit import Audit, audit_stage, fingerprints, require_same_weights
from sft_keras.training.checkpointer import Checkpointer
from sft_keras.training.early_stopping import EarlyStopping
from sft_keras.training.freezing import may_move, trained_batch_norms
from sft_keras.training.gradient_monitor import GradientMonitor
from sft_keras.training.loop import Position, StageLoop
from sft_keras.training.optimizers import build_schedule, peak_learning_rate
from sft_keras.training.prepare import clear_penalties, prepare_stage
from sft_keras.training.stage_plan import StagePlan
from sft_keras.training.step import Steps


@dataclasses.dataclass(frozen=True)
class StageResult:
    """The result of a stage.

    Attributes:
      name: The stage's name.
      unfreeze: How many blocks were unfrozen.
      learning_rate: The peak learning rate.
      epochs_run: Epochs finished.
      steps: Batches trained on.
      seconds: Duration, over all processes that it took.
      stopped: Why the stage ended, in words.
      best_epoch: The epoch whose weights were kept, from 1; 0 for the initial weights.
      trainable_parameters: Parameters that trained.
      total_parameters: Parameters of the whole model.
      history: {metric: one value per epoch}.
      audit: Which variables moved.
      adapter: The adapters' {"rank", "layers"}; None for a stage without adapters.
      start: Validation metrics of the initial weights; None if they were not validated.
      warnings: Warnings to show in the report.
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
        """Return the result as plain values."""
        return {**dataclasses.asdict(self), "audit": self.audit.as_json()}

    def summary(self) -> str:
        """Return the result in one line, without the validation metrics."""
        best = f"best epoch {self.best_epoch}"
        if self.best_epoch == 0:
            best = "no epoch was better than the initial weights, which were kept"
        if self.adapter is not None:
            best += (
                f"; adapters of rank {self.adapter['rank']} in {self.adapter['layers']} layers, "
                "merged into their kernels"
            )
        if self.start is not None:
            best += f"; validation loss before {self.start['loss']:.4f}"
        return (
            f"{self.name}  {self.stopped}; {best}; "
            f"{self.trainable_parameters:,} parameters trained, "
            f"{self.audit.frozen_variables} frozen variables bit-identical"
        )


def run_stage(
    staged: StagedModel,
    plan: StagePlan,
    reporter: Reporter,
    checkpointer: Checkpointer | None = None,
    devices: Devices = ONE_DEVICE,
) -> StageResult:
    """Train a stage and leave the weights of its best epoch in the model.

    Args:
      staged: The model; changed in place.
      plan: What the stage trains with. Its batches are those of all devices together.
      reporter: Receives log lines, progress and the metrics of each epoch.
      checkpointer: Writes checkpoints, and holds the one to resume from if the run stopped within
        this stage; None to train without.
      devices: The devices or workers to train on.

    Raises:
      LossError: If a loss or gradient became NaN or infinite; the best weights so far are restored.
      AuditError: If a frozen variable moved, or no trainable one did.
      KeyboardInterrupt: If the run is to stop; a checkpoint is written.
    """
    stage = plan.stage
    with devices.scope():
        model = prepare_stage(
            staged, stage, plan.length.steps, plan.loss, plan.metrics, plan.from_boundary
        )
    devices.prepare_optimizer(model.optimizer)
    free = may_move(staged, stage)
    resumed = None if checkpointer is None else checkpointer.resume_stage()
    before = fingerprints(staged) if resumed is None else resumed.fingerprints
    early_stopping = EarlyStopping(stage, plan.monitor, free)
    training = plan.training(0 if resumed is None else resumed.step)
    loop = _build_loop(plan, model, training, early_stopping, reporter, checkpointer, devices)
    if resumed is not None:
        loop.restore(resumed.loop)
    if checkpointer is not None:
        checkpointer.begin_stage(before, free)
    try:
        with devices.sync_batch_norm(trained_batch_norms(staged, stage)):
            loop.run()
    except LossError:
        early_stopping.restore()
        raise
    finally:
        clear_penalties(staged)
    audit = audit_stage(staged, stage, before)
    early_stopping.restore()
    require_same_weights(staged, devices, f"after stage {stage.name!r}")
    return _result(staged, plan, model, loop.position, early_stopping, audit)


def _build_loop(
    plan: StagePlan,
    model: keras.Model,
    training: tf.data.Dataset,
    early_stopping: EarlyStopping,
    reporter: Reporter,
    checkpointer: Checkpointer | None,
    devices: Devices,
) -> StageLoop:
    stage = plan.stage
    schedule = build_schedule(
        peak_learning_rate(stage), stage.schedule, stage.warmup, plan.length.steps
    )
    monitor = GradientMonitor(stage, schedule)
    steps = Steps(
        model,
        plan.loss,
        plan.metrics,
        batch=training.element_spec,
        validation_batch=plan.validation.element_spec,
        gradient_monitor=monitor,
        output_monitors=plan.output_monitors,
        devices=devices,
    )
    return StageLoop(plan, training, steps, early_stopping, monitor, reporter, checkpointer)


def _result(
    staged: StagedModel,
    plan: StagePlan,
    model: keras.Model,
    position: Position,
    early_stopping: EarlyStopping,
    audit: Audit,
) -> StageResult:
    stage = plan.stage
    patience_out = f"no better {stage.monitor} for {stage.patience} epochs"
    adapter = None
    if stage.adapter is not None:
        layers = layers_to_adapt(staged.backbone, stage)
        adapter = {"rank": stage.adapter.rank, "layers": len(layers)}
    return StageResult(
        name=stage.name,
        unfreeze=stage.unfreeze,
        learning_rate=peak_learning_rate(stage),
        epochs_run=position.epoch,
        steps=position.step,
        seconds=position.seconds,
        stopped=patience_out if early_stopping.is_patience_out else "ran all its epochs",
        best_epoch=early_stopping.epoch,
        trainable_parameters=count_parameters(model.trainable_variables),
        total_parameters=count_parameters(staged.model.weights),
        history=position.history,
        audit=audit,
        adapter=adapter,
        start=position.start,
        warnings=tuple(position.warnings),
    )
