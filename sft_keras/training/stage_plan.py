"""The plan of one stage: what it trains with, resolved before its first step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from sft_keras.evaluation.output_monitors import OutputMonitor
from sft_keras.recipe.metric import Metric
from sft_keras.recipe.stage import Length, Stage
from sft_keras.training.eta import TimeLeft, stage_time_left


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """Everything that one stage trains with, except the model.

    Attributes:
      stage: The stage's recipe, with a numeric learning rate.
      length: Epochs and steps, from `stage_length`.
      monitor: The validation metric that `Stage.monitor` names.
      loss: Loss between the batches' y and the model's logits.
      metrics: Metrics of training and validation.
      training: Maps a number of batches to the (x, y, sample weight) batches after them, at least
        as many as the rest of the stage takes.
      validation: (x, y) batches.
      from_boundary: Whether x is cached features rather than raw inputs.
      validates_start: Whether the initial weights are worth keeping, as after an earlier stage or
        pretraining. They are then validated as epoch 0 and kept if no epoch is better.
      output_monitors: Monitors of the model's outputs on validation examples.
      steps_before: Batches trained on in earlier stages, which reported steps are counted from.
      time_left: Describes the time left, see `TimeLeft`.
    """

    stage: Stage
    length: Length
    monitor: Metric
    loss: keras.losses.Loss
    metrics: Sequence[keras.metrics.Metric]
    training: Callable[[int], tf.data.Dataset]
    validation: tf.data.Dataset
    from_boundary: bool = False
    validates_start: bool = False
    output_monitors: Sequence[OutputMonitor] = ()
    steps_before: int = 0
    time_left: TimeLeft = stage_time_left
