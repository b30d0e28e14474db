"""A training step and a validation pass of a stage's model, each one graph.

In place of `Model.fit` and `Model.evaluate`, which begin at the start of an epoch alone and hand
the figures of every step to Python.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.distributed.devices import ONE_DEVICE, Devices, Shard
from sft_keras.distributed.sync_batch_norm import row_mask
from sft_keras.evaluation.output_monitors import OutputMonitor
from sft_keras.models.losses import SelfWeightedLoss
from sft_keras.training.gradient_monitor import GradientMonitor

_ASKS = 2
NOTHING = (0.0,) * _ASKS


class Steps:
    """Trains and validates a model batch by batch, and adds up figures meanwhile."""

    def __init__(
        self,
        model: keras.Model,
        loss: keras.losses.Loss,
        metrics: Sequence[keras.metrics.Metric],
        *,
        batch: Any,
        validation_batch: Any,
        watch: GradientMonitor | None = None,
        output_monitors: Sequence[OutputMonitor] = (),
        devices: Devices = ONE_DEVICE,
    ) -> None:
        """Takes a model.

        Args:
          model: With an optimizer that is built, see `prepare_stage`.
          loss: Between y and the model's outputs, a mean over the examples of a batch, unless it
            is a `SelfWeightedLoss`.
          metrics: Figures to add up beside it, whose variables are sums over examples.
          batch: What a training batch is, (x, y) or (x, y, sample weights): a TensorSpec each.
          validation_batch: The same for validation.
          watch: Sees every training step.
          output_watches: See every validation batch.
          devices: Where the steps are taken; batches are those of all of them together.
        """
        self._model, self._loss, self._metrics = model, loss, tuple(metrics)
        self._mean_loss = keras.metrics.Mean(name="loss")
        self._watch, self._output_watches = watch, tuple(output_monitors)
        self._devices = devices
        rest = tf.TensorSpec([], tf.int32), tf.TensorSpec([_ASKS], tf.float32)
        compiles = model.jit_compile and _pays(batch, devices)
        self._train = devices.trace(self._trained, [batch, *rest], compiles)
        self._test = devices.trace(self._tested, [validation_batch, *rest], compiles)

    @property
    def is_alone(self) -> bool:
        """Whether no other process takes the same steps, with which this one must keep pace."""
        return self._devices.num_workers == 1

    def state(self) -> list[np.ndarray]:
        """Returns all that lasts from step to step beside the model's variables, in an order.

        It is of the optimizer, of the watch and of the figures, with what all workers have counted:
        each of them has to ask for it.
        """
        same = [np.array(each.numpy()) for each in self._same_everywhere]
        return [*same, *self._devices.sum_over_workers(_values(self._counted))]

    def take_up(self, state: Sequence[np.ndarray]) -> None:
        """Goes on from what `state` gave."""
        variables = [*self._same_everywhere, *self._counted]
        for number, (variable, value) in enumerate(zip(variables, state, strict=True)):
            is_others = number >= len(self._same_everywhere) and not self._devices.is_chief
            variable.assign(np.zeros_like(value) if is_others else value)

    def train(self, batch: Any, asks: Sequence[float] = NOTHING) -> Any:
        """Takes one step.

        Args:
          batch: Of all workers together; each of them computes its shard.
          asks: What this worker wants to be done after the step, two numbers.

        Returns:
          The sums of what the workers want, [2].
        """
        return self._train(*self._arguments(batch, asks))

    def validate(
        self,
        batches: Iterable[Any],
        after_batch: Callable[[Any], None] = lambda asked: None,
        asks: Callable[[], Sequence[float]] = lambda: NOTHING,
    ) -> dict[str, float]:
        """Returns the figures of all batches; those of training are forgotten.

        Args:
          batches: To validate on.
          after_batch: Takes what all workers asked for, see `train`.
          asks: Returns what this worker wants.
        """
        self.reset()
        for watch in self._output_watches:
            watch.reset_state()
        for batch in batches:
            after_batch(self._test(*self._arguments(batch, asks())))
        return self.figures()

    def reset(self) -> None:
        """Begins to add up anew."""
        for metric in self._figures:
            metric.reset_state()

    def figures(self) -> dict[str, float]:
        """Returns the figures since they were reset; each worker has to ask for them."""
        with self._everyones(self._counted):
            return self.own_figures()

    def own_figures(self) -> dict[str, float]:
        """Returns the figures of what this worker has computed; the loss is that of all."""
        return {metric.name: float(metric.result()) for metric in self._figures}

    @property
    def examples(self) -> int:
        """How many examples have been computed since the figures were reset, by all devices."""
        return int(self._mean_loss.count)

    def warnings(self) -> list[str]:
        """Returns what is to be said of the outputs of the latest validation."""
        seen = [each for watch in self._output_watches for each in watch.variables]
        with self._everyones(seen):
            return [warning for each in self._output_watches if (warning := each.warning())]

    @property
    def _figures(self) -> tuple[keras.metrics.Metric, ...]:
        return (self._mean_loss, *self._metrics)

    @property
    def _same_everywhere(self) -> list[Any]:
        watched = [] if self._watch is None else self._watch.variables
        return [*self._model.optimizer.variables, *self._mean_loss.variables, *watched]

    @property
    def _counted(self) -> list[Any]:
        return [each for metric in self._metrics for each in metric.variables]

    @contextlib.contextmanager
    def _everyones(self, variables: Sequence[Any]) -> Iterator[None]:
        """Has the sums over all workers in variables within the block."""
        if self.is_alone:
            yield
            return
        own = [np.array(each) for each in _values(variables)]
        for variable, total in zip(variables, self._devices.sum_over_workers(own)):
            variable.assign(total)
        try:
            yield
        finally:
            for variable, value in zip(variables, own):
                variable.assign(value)

    def _arguments(self, batch: Any, asks: Sequence[float]) -> tuple[Any, tf.Tensor, tf.Tensor]:
        """Returns what a step takes: a batch, how many of its rows count, and what is asked for."""
        batch, rows = self._devices.pad_batch(batch)
        return batch, tf.constant(rows, tf.int32), tf.constant(asks, tf.float32)

    def _trained(self, batch: Any, rows: tf.Tensor, asks: tf.Tensor) -> tf.Tensor:
        """One step, as `Model.train_step` takes it."""
        whole = self._whole(batch, rows)
        results = self._devices.run_on_shards(self._learnt, batch, rows, whole, asks)
        loss, asked, norm, *gradients = self._devices.first_local_result(results)
        if self._watch is not None:
            self._watch.observe(tf.cast(loss, tf.float32), norm)
        if not self._devices.updates_on_replicas:
            self._apply(gradients)
        self._mean_loss.update_state(loss, sample_weight=rows)
        return asked

    def _apply(self, gradients: Sequence[Any]) -> None:
        model = self._model
        model.optimizer.apply_gradients(zip(gradients, model.trainable_weights))

    def _learnt(self, shard: Shard, whole: tf.Tensor, asks: tf.Tensor) -> list[Any]:
        """Returns the loss of a batch, what is asked for, and the norm of the gradient; of all.

        And the gradient itself, where it is not used here and now.
        """
        model, (x, y, weights) = self._model, keras.utils.unpack_x_y_sample_weight(shard.batch)
        with tf.GradientTape() as tape, row_mask(shard.row_mask):
            outputs = model(x, training=True)
            # A part of the whole before its gradient is taken: with the statistics of all devices
            # what one computes has a part in the losses of all.
            loss = self._loss_of(y, outputs, weights, shard, whole)
            scaled = model.optimizer.scale_loss(loss)
        gradients = [_dense(each) for each in tape.gradient(scaled, model.trainable_weights)]
        self._count(self._metrics, y, outputs, shard)
        loss, asked, *gradients = self._sums([loss, *gradients], asks)
        norm = _norm(gradients, model.optimizer)
        if not self._devices.updates_on_replicas:
            return [loss, asked, norm, *gradients]
        self._apply(gradients)
        return [loss, asked, norm]

    def _tested(self, batch: Any, rows: tf.Tensor, asks: tf.Tensor) -> tf.Tensor:
        """One batch, as `Model.test_step` looks at it."""
        whole = self._whole(batch, rows)
        results = self._devices.run_on_shards(self._validated, batch, rows, whole, asks)
        loss, asked = self._devices.first_local_result(results)
        self._mean_loss.update_state(loss, sample_weight=rows)
        return asked

    def _validated(self, shard: Shard, whole: tf.Tensor, asks: tf.Tensor) -> list[Any]:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(shard.batch)
        outputs = self._model(x, training=False)
        self._count((*self._metrics, *self._output_watches), y, outputs, shard)
        return self._sums([self._loss_of(y, outputs, weights, shard, whole)], asks)

    def _sums(self, values: Sequence[Any], asks: tf.Tensor) -> list[Any]:
        """Returns the sums over all devices: of the first value, of what is asked for, of others.

        Of gradients some are None, of variables that play no part.
        """
        there = [each for each in values if each is not None]
        asked, *sums = self._devices.all_reduce([asks, *there])
        found = iter(sums)
        first, *others = [None if each is None else next(found) for each in values]
        return [first, asked, *others]

    def _loss_of(
        self, y: Any, outputs: Any, weights: Any, shard: Shard, whole: tf.Tensor
    ) -> tf.Tensor:
        """Returns a shard's part of the loss of a batch: that of the batch is the sum over devices.

        With the penalties on weights, as `compute_loss` has them.
        """
        weights = _counted(weights, shard.row_mask)
        loss = self._loss(y, outputs, sample_weight=weights)
        devices = self._devices.num_replicas
        if shard.row_mask is not None:
            # Keras has divided by the number of devices, and by what is of this shard.
            shard_weight = self._weight(y, weights, tf.shape(tf.nest.flatten(y)[0])[0])
            part = devices * tf.math.divide_no_nan(shard_weight, whole)
            loss *= tf.cast(part, loss.dtype)
        penalties = [tf.cast(each, loss.dtype) / devices for each in self._model.losses]
        return tf.add_n([loss, *penalties])

    def _whole(self, batch: Any, rows: tf.Tensor) -> tf.Tensor:
        """Returns of how much the loss of a batch is to be the mean, float32 scalar.

        It is 0 where, say, no token of a batch has a class.
        """
        _, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        counts = tf.cast(tf.range(tf.shape(tf.nest.flatten(y)[0])[0]) < rows, tf.float32)
        return self._weight(y, _counted(weights, counts), rows, counts)

    def _weight(
        self, y: Any, weights: Any, rows: tf.Tensor, counts: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Returns what the loss divides a sum over examples by, float32 scalar."""
        if isinstance(self._loss, SelfWeightedLoss):
            weight = self._loss.total_weight(y, counts)
        elif self._loss.reduction == "mean_with_sample_weight" and weights is not None:
            weight = tf.reduce_sum(weights)
        else:
            weight = rows
        return tf.cast(weight, tf.float32)

    def _count(
        self, metrics: Sequence[keras.metrics.Metric], y: Any, outputs: Any, shard: Shard
    ) -> None:
        for metric in metrics:
            metric.update_state(y, outputs, sample_weight=shard.row_mask)


def _counted(weights: tf.Tensor | None, counts: tf.Tensor | None) -> tf.Tensor | None:
    """Returns sample weights, [batch, ...], that are 0 where an example does not count."""
    if counts is None or weights is None:
        return counts if weights is None else weights
    weights = tf.cast(weights, tf.float32)
    return weights * tf.reshape(counts, [-1] + [1] * (weights.shape.rank - 1))


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    return [each.numpy() for each in variables]


def _pays(batch: Any, devices: Devices) -> bool:
    """Whether compiling with XLA can be worth its time.

    Not on CPUs; and what devices say to each other cannot be compiled. Texts would be compiled for
    each length anew.
    """
    is_of_one_size = all(None not in spec.shape[1:] for spec in tf.nest.flatten(batch))
    return (
        devices.num_replicas == 1
        and is_of_one_size
        and bool(tf.config.list_physical_devices("GPU"))
    )


def _dense(gradient: Any) -> tf.Tensor | None:
    """Returns a gradient as one number for each weight.

    That of an embedding comes as a row for each time that a token occurs. Keras' optimizers would
    square each row by itself, and clipping would take the norm of all rows: both of what is only
    part of a gradient.
    """
    return None if gradient is None else tf.convert_to_tensor(gradient)


def _norm(gradients: Sequence[Any], optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """Returns the norm of a gradient, before any clipping, for `GradientMonitor.observe`."""
    norm = tf.linalg.global_norm([each for each in gradients if each is not None])
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        # It leaves out steps whose scaled gradient is not finite, and lowers the scale.
        norm = tf.where(tf.math.is_finite(norm), norm / optimizer.scale_loss(1.0), 0.0)
    return tf.cast(norm, tf.float32)
