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

from sft_keras.devices import ONE_DEVICE, Devices, Share
from sft_keras.watch import Watch

_ASKS = 2
NOTHING = (0.0,) * _ASKS


class OutputWatch(keras.metrics.Metric):
    """Looks at validation outputs for what a person should know; it is no figure to be shown.

    Its variables are sums over examples, as those of other metrics are.
    """

    def warning(self) -> str | None:
        """Returns sentences on what it has seen since it was reset, or None.

        "{where}" in them stands for where that was: "after the first epoch of stage ...".
        """
        raise NotImplementedError


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
        watch: Watch | None = None,
        output_watches: Sequence[OutputWatch] = (),
        devices: Devices = ONE_DEVICE,
    ) -> None:
        """Takes a model.

        Args:
          model: With an optimizer that is built, see `prepare_stage`.
          loss: Between y and the model's outputs, a mean over the examples of a batch; one that
            weighs them has a method `weight_of` from y to the sum of the weights.
          metrics: Figures to add up beside it, whose variables are sums over examples.
          batch: What a training batch is, (x, y) or (x, y, sample weights): a TensorSpec each.
          validation_batch: The same for validation.
          watch: Sees every training step.
          output_watches: See every validation batch.
          devices: Where the steps are taken; batches are those of all of them together.
        """
        self._model, self._loss, self._metrics = model, loss, tuple(metrics)
        self._mean_loss = keras.metrics.Mean(name="loss")
        self._watch, self._output_watches = watch, tuple(output_watches)
        self._devices = devices
        graph = {"autograph": False, "jit_compile": model.jit_compile and _pays(batch, devices)}
        asks = tf.TensorSpec([_ASKS], tf.float32)
        self._train = tf.function(self._trained, input_signature=[batch, asks], **graph)
        self._test = tf.function(self._tested, input_signature=[validation_batch, asks], **graph)

    @property
    def is_alone(self) -> bool:
        """Whether no other process takes the same steps, with which this one must keep pace."""
        return self._devices.processes == 1

    def state(self) -> list[np.ndarray]:
        """Returns all that lasts from step to step beside the model's variables, in an order.

        It is of the optimizer, of the watch and of the figures, with what all workers have counted:
        each of them has to ask for it.
        """
        same = [np.array(each.numpy()) for each in self._same_everywhere]
        return [*same, *self._devices.totals(_values(self._counted))]

    def take_up(self, state: Sequence[np.ndarray]) -> None:
        """Goes on from what `state` gave."""
        variables = [*self._same_everywhere, *self._counted]
        for number, (variable, value) in enumerate(zip(variables, state, strict=True)):
            is_others = number >= len(self._same_everywhere) and not self._devices.is_chief
            variable.assign(np.zeros_like(value) if is_others else value)

    def train(self, batch: Any, asks: Sequence[float] = NOTHING) -> Any:
        """Takes one step.

        Args:
          batch: Of all workers together; each of them computes its share.
          asks: What this worker wants to be done after the step, two numbers.

        Returns:
          The sums of what the workers want, [2].
        """
        return self._train(batch, tf.constant(asks, tf.float32))

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
            after_batch(self._test(batch, tf.constant(asks(), tf.float32)))
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
        for variable, total in zip(variables, self._devices.totals(own)):
            variable.assign(total)
        try:
            yield
        finally:
            for variable, value in zip(variables, own):
                variable.assign(value)

    def _trained(self, batch: Any, asks: tf.Tensor) -> tf.Tensor:
        """One step, as `Model.train_step` takes it."""
        results = self._devices.run(self._gradients, batch, asks)
        loss, asked, *gradients = self._devices.one_of(results)
        if self._watch is not None:
            norm = _norm(gradients, self._model.optimizer)
            self._watch.observe(tf.cast(loss, tf.float32), norm)
        self._devices.update(self._apply, results[2:])
        self._add_loss(loss, batch)
        return asked

    def _apply(self, gradients: Sequence[Any]) -> None:
        model = self._model
        model.optimizer.apply_gradients(zip(gradients, model.trainable_weights))

    def _gradients(self, batch: Any, asks: tf.Tensor) -> list[Any]:
        """Returns the loss of a batch, what is asked for, and the gradient: of all workers."""
        model, share = self._model, self._devices.share_of(batch)
        x, y, weights = keras.utils.unpack_x_y_sample_weight(share.batch)
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = self._loss_of(y, outputs, weights)
            # Before its gradient: with synchronized statistics that has parts of all workers.
            counted = self._weighed(loss, share, batch)
            scaled = model.optimizer.scale_loss(counted)
        gradients = [_dense(each) for each in tape.gradient(scaled, model.trainable_weights)]
        self._count(self._metrics, y, outputs, share)
        return self._sums([counted, *gradients], asks)

    def _tested(self, batch: Any, asks: tf.Tensor) -> tf.Tensor:
        """One batch, as `Model.test_step` looks at it."""
        loss, asked = self._devices.one_of(self._devices.run(self._validated, batch, asks))
        self._add_loss(loss, batch)
        return asked

    def _validated(self, batch: Any, asks: tf.Tensor) -> list[Any]:
        share = self._devices.share_of(batch)
        x, y, weights = keras.utils.unpack_x_y_sample_weight(share.batch)
        outputs = self._model(x, training=False)
        self._count((*self._metrics, *self._output_watches), y, outputs, share)
        loss = self._weighed(self._loss_of(y, outputs, weights), share, batch)
        return self._sums([loss], asks)

    def _weighed(self, loss: tf.Tensor, share: Share, batch: Any) -> tf.Tensor:
        """Returns a share's part of the loss of the whole batch, of which the sum is that."""
        if self._devices.count == 1:
            return loss
        # The weights are all 0 where, say, no token of a batch has a class.
        part = tf.math.divide_no_nan(self._weight(share.batch), self._weight(batch))
        return loss * tf.cast(share.scale * part, loss.dtype)

    def _sums(self, values: Sequence[Any], asks: tf.Tensor) -> list[Any]:
        """Returns the sums over all devices: of the first value, of what is asked for, of others.

        Of gradients some are None, of variables that play no part.
        """
        there = [each for each in values if each is not None]
        asked, *sums = self._devices.total([asks, *there])
        found = iter(sums)
        first, *others = [None if each is None else next(found) for each in values]
        return [first, asked, *others]

    def _weight(self, batch: Any) -> tf.Tensor:
        """Returns of how much the loss of a batch is the mean, float32 scalar."""
        _, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        if hasattr(self._loss, "weight_of"):
            weight = self._loss.weight_of(y)
        elif self._loss.reduction == "mean_with_sample_weight" and weights is not None:
            weight = tf.reduce_sum(weights)
        else:
            weight = tf.shape(tf.nest.flatten(y)[0])[0]
        return tf.cast(weight, tf.float32)

    def _loss_of(self, y: Any, outputs: Any, weights: Any) -> tf.Tensor:
        """Returns the loss of a batch with the penalties on weights, as `compute_loss` does."""
        loss = self._loss(y, outputs, sample_weight=weights)
        if self._devices.count > 1:
            loss *= self._devices.count  # Keras has divided by it, for a sum that is none of ours
        return tf.add_n([loss, *(tf.cast(each, loss.dtype) for each in self._model.losses)])

    def _add_loss(self, loss: tf.Tensor, batch: Any) -> None:
        # A batch's loss is a mean over its examples, of which the last batch has fewer.
        self._mean_loss.update_state(loss, sample_weight=tf.shape(tf.nest.flatten(batch)[0])[0])

    def _count(
        self, metrics: Sequence[keras.metrics.Metric], y: Any, outputs: Any, share: Share
    ) -> None:
        if self._devices.count > 1:
            y, outputs = tf.nest.map_structure(lambda each: each[: share.rows], (y, outputs))
        for metric in metrics:
            metric.update_state(y, outputs)


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    return [each.numpy() for each in variables]


def _pays(batch: Any, devices: Devices) -> bool:
    """Whether compiling with XLA can be worth its time.

    Not on CPUs; and what devices say to each other cannot be compiled. Texts would be compiled for
    each length anew.
    """
    is_of_one_size = all(None not in spec.shape[1:] for spec in tf.nest.flatten(batch))
    return devices.count == 1 and is_of_one_size and bool(tf.config.list_physical_devices("GPU"))


def _dense(gradient: Any) -> tf.Tensor | None:
    """Returns a gradient as one number for each weight.

    That of an embedding comes as a row for each time that a token occurs. Keras' optimizers would
    square each row by itself, and clipping would take the norm of all rows: both of what is only
    part of a gradient.
    """
    return None if gradient is None else tf.convert_to_tensor(gradient)


def _norm(gradients: Sequence[Any], optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """Returns the norm of a gradient, before any clipping, for `Watch.observe`."""
    norm = tf.linalg.global_norm([each for each in gradients if each is not None])
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        # It leaves out steps whose scaled gradient is not finite, and lowers the scale.
        norm = tf.where(tf.math.is_finite(norm), norm / optimizer.scale_loss(1.0), 0.0)
    return tf.cast(norm, tf.float32)
