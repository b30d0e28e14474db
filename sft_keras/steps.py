"""A training step and a validation pass of a stage's model, each one graph.

In place of `Model.fit` and `Model.evaluate`, which begin at the start of an epoch alone and hand
the figures of every step to Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from sft_keras.watch import Watch


class OutputWatch(keras.metrics.Metric):
    """Looks at validation outputs for what a person should know; it is no figure to be shown."""

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
    ) -> None:
        """Takes a model.

        Args:
          model: With an optimizer that is built, see `prepare_stage`.
          loss: Between y and the model's outputs, a mean over the examples of a batch.
          metrics: Figures to add up beside it.
          batch: What a training batch is, (x, y) or (x, y, sample weights): a TensorSpec each.
          validation_batch: The same for validation.
          watch: Sees every training step.
          output_watches: See every validation batch.
        """
        self._model, self._loss, self._metrics = model, loss, tuple(metrics)
        self._mean_loss = keras.metrics.Mean(name="loss")
        self._watch, self._output_watches = watch, tuple(output_watches)
        graph = {"autograph": False, "jit_compile": model.jit_compile}
        self._train = tf.function(self._trained, input_signature=[batch], **graph)
        self._test = tf.function(self._tested, input_signature=[validation_batch], **graph)

    @property
    def variables(self) -> list[Any]:
        """All that lasts from step to step beside the model's variables, in an order that stays.

        These are those of the optimizer, of the figures and of the watch.
        """
        added = [each for metric in self._figures for each in metric.variables]
        watched = [] if self._watch is None else self._watch.variables
        return [*self._model.optimizer.variables, *added, *watched]

    def train(self, batch: Any) -> None:
        """Takes one step."""
        self._train(batch)

    def validate(
        self, batches: Iterable[Any], after_batch: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Returns the figures of all batches; those of training are forgotten."""
        self.reset()
        for watch in self._output_watches:
            watch.reset_state()
        for batch in batches:
            self._test(batch)
            after_batch()
        return self.figures()

    def reset(self) -> None:
        """Begins to add up anew."""
        for metric in self._figures:
            metric.reset_state()

    def figures(self) -> dict[str, float]:
        """Returns the figures since they were reset."""
        return {metric.name: float(metric.result()) for metric in self._figures}

    def warnings(self) -> list[str]:
        """Returns what is to be said of the outputs of the latest validation."""
        return [warning for each in self._output_watches if (warning := each.warning())]

    @property
    def _figures(self) -> tuple[keras.metrics.Metric, ...]:
        return (self._mean_loss, *self._metrics)

    def _trained(self, batch: Any) -> None:
        """One step, as `Model.train_step` takes it."""
        model, optimizer = self._model, self._model.optimizer
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = self._loss_of(y, outputs, weights)
            scaled = optimizer.scale_loss(loss)
        variables = model.trainable_weights
        gradients = tape.gradient(scaled, variables)
        if self._watch is not None:
            self._watch.observe(tf.cast(loss, tf.float32), _norm(gradients, optimizer))
        optimizer.apply_gradients(zip(gradients, variables))
        self._add(x, y, outputs, loss)

    def _tested(self, batch: Any) -> None:
        """One batch, as `Model.test_step` looks at it."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        outputs = self._model(x, training=False)
        self._add(x, y, outputs, self._loss_of(y, outputs, weights))
        for watch in self._output_watches:
            watch.update_state(y, outputs)

    def _loss_of(self, y: Any, outputs: Any, weights: Any) -> tf.Tensor:
        """Returns the loss of a batch with the penalties on weights, as `compute_loss` does."""
        loss = self._loss(y, outputs, sample_weight=weights)
        return tf.add_n([loss, *(tf.cast(each, loss.dtype) for each in self._model.losses)])

    def _add(self, x: Any, y: Any, outputs: Any, loss: tf.Tensor) -> None:
        # A batch's loss is a mean over its examples, of which the last batch has fewer.
        self._mean_loss.update_state(loss, sample_weight=tf.shape(tf.nest.flatten(x)[0])[0])
        for metric in self._metrics:
            metric.update_state(y, outputs)


def _norm(gradients: Sequence[Any], optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """Returns the norm of a gradient, before any clipping, for `Watch.observe`."""
    norm = tf.linalg.global_norm([each for each in gradients if each is not None])
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        # It leaves out steps whose scaled gradient is not finite, and lowers the scale.
        norm = tf.where(tf.math.is_finite(norm), norm / optimizer.scale_loss(1.0), 0.0)
    return tf.cast(norm, tf.float32)
