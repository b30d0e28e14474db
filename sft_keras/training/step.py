"""The training step and the validation step of a stage's model, each one graph.

They replace `Model.fit` and `Model.evaluate`, which can start only at the beginning of an epoch and
return the metrics of every step to Python.
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

_NUM_REQUESTS = 2
NO_REQUESTS = (0.0,) * _NUM_REQUESTS
"""What a worker passes to `Steps.train` if it requests nothing, see `Checkpointer.requests`."""


class Steps:
    """Trains and validates a model batch by batch and accumulates the metrics.

    Attributes:
      model: The model.
    """

    # All but the first three are keyword-only, and most calls need no observers.
    def __init__(  # noqa: PLR0913
        self,
        model: keras.Model,
        loss: keras.losses.Loss,
        metrics: Sequence[keras.metrics.Metric],
        *,
        batch: Any,
        validation_batch: Any,
        gradient_monitor: GradientMonitor | None = None,
        output_monitors: Sequence[OutputMonitor] = (),
        devices: Devices = ONE_DEVICE,
    ) -> None:
        """Build the graphs.

        Args:
          model: The model, with a built optimizer, see `prepare_stage`.
          loss: Loss between y and the model's outputs, a mean over the examples of a batch, unless
            it is a `SelfWeightedLoss`.
          metrics: Further metrics, whose variables must be sums over examples.
          batch: TensorSpecs of a training batch, (x, y) or (x, y, sample weights).
          validation_batch: TensorSpecs of a validation batch.
          gradient_monitor: Observes every training step.
          output_monitors: Observe every validation batch.
          devices: The devices or workers; batches are those of all of them together.
        """
        self.model, self._loss, self._metrics = model, loss, tuple(metrics)
        self._mean_loss = keras.metrics.Mean(name="loss")
        self._gradient_monitor, self._output_monitors = gradient_monitor, tuple(output_monitors)
        self._devices = devices
        scalars = tf.TensorSpec([], tf.int32), tf.TensorSpec([_NUM_REQUESTS], tf.float32)
        compiles = model.jit_compile and _xla_pays(batch, devices)
        self._train_graph = devices.trace(self._train_step, [batch, *scalars], compiles)
        self._test_graph = devices.trace(self._test_step, [validation_batch, *scalars], compiles)

    @property
    def is_alone(self) -> bool:
        """Whether no other process takes the same steps."""
        return self._devices.num_workers == 1

    def state(self) -> list[np.ndarray]:
        """Return optimizer, metric and gradient monitor variables in a fixed order.

        Metrics are added up over all workers, so every worker has to call this.
        """
        replicated = [np.array(variable.numpy()) for variable in self._replicated_variables]
        return [*replicated, *self._devices.sum_over_workers(_values(self._metric_variables))]

    def restore(self, state: Sequence[np.ndarray]) -> None:
        """Restore the state returned by `state`."""
        variables = [*self._replicated_variables, *self._metric_variables]
        for index, (variable, value) in enumerate(zip(variables, state, strict=True)):
            # The chief takes over the sums of all workers; the others begin at 0.
            is_sum = index >= len(self._replicated_variables)
            variable.assign(
                np.zeros_like(value) if is_sum and not self._devices.is_chief else value
            )

    def train(self, batch: Any, requests: Sequence[float] = NO_REQUESTS) -> Any:
        """Take one step.

        Args:
          batch: A batch of all workers together; each computes its shard.
          requests: This worker's requests after the step, two numbers, see
            `Checkpointer.requests`.

        Returns:
          The requests of all workers added up, float32 [2].
        """
        return self._train_graph(*self._arguments(batch, requests))

    def validate(
        self,
        batches: Iterable[Any],
        after_batch: Callable[[Any], None] = lambda all_requests: None,
        requests: Callable[[], Sequence[float]] = lambda: NO_REQUESTS,
    ) -> dict[str, float]:
        """Reset all metrics and return those of the validation batches.

        Args:
          batches: Validation batches.
          after_batch: Called after each batch with the requests of all workers, see `train`.
          requests: Returns this worker's requests.
        """
        self.reset()
        for monitor in self._output_monitors:
            monitor.reset_state()
        for batch in batches:
            after_batch(self._test_graph(*self._arguments(batch, requests())))
        return self.results()

    def reset(self) -> None:
        """Reset loss and metrics."""
        for metric in self._all_metrics:
            metric.reset_state()

    def results(self) -> dict[str, float]:
        """Return loss and metrics since the reset. Every worker has to call this."""
        with self._summed_over_workers(self._metric_variables):
            return self.local_results()

    def local_results(self) -> dict[str, float]:
        """Return the metrics of this worker's examples since the reset, and the loss of all."""
        return {metric.name: float(metric.result()) for metric in self._all_metrics}

    @property
    def examples(self) -> int:
        """Examples since the reset, on all devices."""
        return int(self._mean_loss.count)

    def warnings(self) -> list[str]:
        """Return warnings about the model's outputs in the latest validation."""
        monitors = self._output_monitors
        with self._summed_over_workers([v for monitor in monitors for v in monitor.variables]):
            return [warning for monitor in monitors if (warning := monitor.warning())]

    @property
    def _all_metrics(self) -> tuple[keras.metrics.Metric, ...]:
        return (self._mean_loss, *self._metrics)

    @property
    def _replicated_variables(self) -> list[Any]:
        """Variables that are the same on all workers."""
        monitor = self._gradient_monitor
        monitored = [] if monitor is None else monitor.variables
        return [*self.model.optimizer.variables, *self._mean_loss.variables, *monitored]

    @property
    def _metric_variables(self) -> list[Any]:
        """Variables in which each worker adds up its own examples."""
        return [variable for metric in self._metrics for variable in metric.variables]

    @contextlib.contextmanager
    def _summed_over_workers(self, variables: Sequence[Any]) -> Iterator[None]:
        """Assign the sums over all workers to variables within the block."""
        if self.is_alone:
            yield
            return
        local = [np.array(value) for value in _values(variables)]
        for variable, total in zip(variables, self._devices.sum_over_workers(local)):
            variable.assign(total)
        try:
            yield
        finally:
            for variable, value in zip(variables, local):
                variable.assign(value)

    def _arguments(self, batch: Any, requests: Sequence[float]) -> tuple[Any, tf.Tensor, tf.Tensor]:
        """Return the arguments of a graph: a padded batch, its number of real rows, requests."""
        batch, rows = self._devices.pad_batch(batch)
        return batch, tf.constant(rows, tf.int32), tf.constant(requests, tf.float32)

    def _train_step(self, batch: Any, rows: tf.Tensor, requests: tf.Tensor) -> tf.Tensor:
        """Take one step like `Model.train_step`; return the requests of all workers."""
        total_weight = self._total_weight(batch, rows)
        results = self._devices.run_on_shards(
            self._train_shard, batch, rows, total_weight, requests
        )
        loss, all_requests, norm, *gradients = self._devices.first_local_result(results)
        if self._gradient_monitor is not None:
            self._gradient_monitor.observe(tf.cast(loss, tf.float32), norm)
        if not self._devices.updates_on_replicas:
            self._apply(gradients)
        self._mean_loss.update_state(loss, sample_weight=rows)
        return all_requests

    def _apply(self, gradients: Sequence[Any]) -> None:
        model = self.model
        model.optimizer.apply_gradients(zip(gradients, model.trainable_weights))

    def _train_shard(self, shard: Shard, total_weight: tf.Tensor, requests: tf.Tensor) -> list[Any]:
        """Compute one device's shard of a step.

        Returns:
          Loss, requests and gradient norm, each of all devices; then the gradients of all devices,
          unless they were applied here.
        """
        model, (x, y, weights) = self.model, keras.utils.unpack_x_y_sample_weight(shard.batch)
        with tf.GradientTape() as tape, row_mask(shard.row_mask):
            outputs = model(x, training=True)
            # Scaled to its part of the whole batch before differentiation: with BatchNormalization
            # statistics of all devices, the outputs of one influence the losses of all.
            loss = self._shard_loss(y, outputs, weights, shard, total_weight)
            scaled = model.optimizer.scale_loss(loss)
        gradients = [_dense(g) for g in tape.gradient(scaled, model.trainable_weights)]
        self._update_metrics(self._metrics, y, outputs, shard)
        loss, all_requests, *gradients = self._sums([loss, *gradients], requests)
        norm = _norm(gradients, model.optimizer)
        if not self._devices.updates_on_replicas:
            return [loss, all_requests, norm, *gradients]
        self._apply(gradients)
        return [loss, all_requests, norm]

    def _test_step(self, batch: Any, rows: tf.Tensor, requests: tf.Tensor) -> tf.Tensor:
        """Validate one batch like `Model.test_step`; return the requests of all workers."""
        total_weight = self._total_weight(batch, rows)
        results = self._devices.run_on_shards(self._test_shard, batch, rows, total_weight, requests)
        loss, all_requests = self._devices.first_local_result(results)
        self._mean_loss.update_state(loss, sample_weight=rows)
        return all_requests

    def _test_shard(self, shard: Shard, total_weight: tf.Tensor, requests: tf.Tensor) -> list[Any]:
        """Return the loss and the requests of all devices."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(shard.batch)
        outputs = self.model(x, training=False)
        self._update_metrics((*self._metrics, *self._output_monitors), y, outputs, shard)
        loss = self._shard_loss(y, outputs, weights, shard, total_weight)
        return self._sums([loss], requests)

    def _sums(self, values: Sequence[Any], requests: tf.Tensor) -> list[Any]:
        """Return sums over all devices: the first value, the requests, the other values.

        None stays None: the gradient of a variable that the loss does not depend on.
        """
        tensors = [value for value in values if value is not None]
        all_requests, *sums = self._devices.all_reduce([requests, *tensors])
        remaining = iter(sums)
        first, *others = [None if value is None else next(remaining) for value in values]
        return [first, all_requests, *others]

    def _shard_loss(
        self, y: Any, outputs: Any, weights: Any, shard: Shard, total_weight: tf.Tensor
    ) -> tf.Tensor:
        """Return a shard's part of the batch's loss, which is the sum over all devices.

        It includes weight penalties, as `Model.compute_loss` does.
        """
        weights = _counted(weights, shard.row_mask)
        loss = self._loss(y, outputs, sample_weight=weights)
        devices = self._devices.num_replicas
        if shard.row_mask is not None:
            # Keras has divided by the number of devices and by the weight of this shard.
            shard_weight = self._weight(y, weights, tf.shape(tf.nest.flatten(y)[0])[0])
            part = devices * tf.math.divide_no_nan(shard_weight, total_weight)
            loss *= tf.cast(part, loss.dtype)
        penalties = [tf.cast(penalty, loss.dtype) / devices for penalty in self.model.losses]
        return tf.add_n([loss, *penalties])

    def _total_weight(self, batch: Any, rows: tf.Tensor) -> tf.Tensor:
        """Return the weight that the loss of a batch is a mean over, float32 scalar.

        It can be 0, e.g. if no token of a batch has a class.
        """
        _, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        counts = tf.cast(tf.range(tf.shape(tf.nest.flatten(y)[0])[0]) < rows, tf.float32)
        return self._weight(y, _counted(weights, counts), rows, counts)

    def _weight(
        self, y: Any, weights: Any, rows: tf.Tensor, counts: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Return what the loss divides a sum over examples by, float32 scalar."""
        if isinstance(self._loss, SelfWeightedLoss):
            weight = self._loss.total_weight(y, counts)
        elif self._loss.reduction == "mean_with_sample_weight" and weights is not None:
            weight = tf.reduce_sum(weights)
        else:
            weight = rows
        return tf.cast(weight, tf.float32)

    def _update_metrics(
        self, metrics: Sequence[keras.metrics.Metric], y: Any, outputs: Any, shard: Shard
    ) -> None:
        for metric in metrics:
            metric.update_state(y, outputs, sample_weight=shard.row_mask)


def _counted(weights: tf.Tensor | None, counts: tf.Tensor | None) -> tf.Tensor | None:
    """Return sample weights, [batch, ...], set to 0 for examples that do not count."""
    if counts is None or weights is None:
        return counts if weights is None else weights
    weights = tf.cast(weights, tf.float32)
    return weights * tf.reshape(counts, [-1] + [1] * (weights.shape.rank - 1))


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    return [variable.numpy() for variable in variables]


def _xla_pays(batch: Any, devices: Devices) -> bool:
    """Whether compiling with XLA can pay off.

    It does not on CPUs, it cannot compile communication between devices, and it would compile texts
    anew for each sequence length.
    """
    has_fixed_shape = all(None not in spec.shape[1:] for spec in tf.nest.flatten(batch))
    return (
        devices.num_replicas == 1
        and has_fixed_shape
        and bool(tf.config.list_physical_devices("GPU"))
    )


def _dense(gradient: Any) -> tf.Tensor | None:
    """Return a gradient as a dense tensor.

    The gradient of an embedding is sparse, with one row per occurrence of a token. Keras'
    optimizers would square each row by itself, and clipping would take the norm over all rows,
    although each is only part of a gradient.
    """
    return None if gradient is None else tf.convert_to_tensor(gradient)


def _norm(gradients: Sequence[Any], optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """Return the norm of a gradient before clipping, for `GradientMonitor.observe`."""
    norm = tf.linalg.global_norm([gradient for gradient in gradients if gradient is not None])
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        # It skips steps whose scaled gradient is not finite, and lowers the scale.
        norm = tf.where(tf.math.is_finite(norm), norm / optimizer.scale_loss(1.0), 0.0)
    return tf.cast(norm, tf.float32)
