"""The parts of a task's working half: preprocessor, objective, batches, evaluator and exporter.

Each part is one job. A task builds its parts once, from the recipe and the facts about the data;
parts that several tasks need are beside the rooms, e.g. `sft_keras.tasks.labelled_batches`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.data.examples import Splits
from sft_keras.data.prepared import Prepared
from sft_keras.distributed.devices import Devices
from sft_keras.evaluation.inference import predict_batches
from sft_keras.evaluation.output_monitors import OutputMonitor
from sft_keras.recipe.stage import Stage
from sft_keras.tasks.examples import ReportExamples
from sft_keras.tasks.signatures import ServingSignatures

Progress = Callable[[int, int], None]
"""Called with (done, total) during a long operation."""

Outputs = Any
"""What `Evaluator.predict` returns and the methods of the same evaluator take.

By default the model's outputs for a split in stored order, a float32 array [n, ...]. A task may
return an object of its own where the outputs of a whole split would not fit into memory, such as
those of `MaskedLM` over a vocabulary. Other code only hands it back to the task.
"""

Samples = tuple[dict[str, dict[str, np.ndarray]], np.ndarray]
"""({signature: {argument: [m, ...]}}, expected values of `ServingSignatures.compared`, [m, ...])"""


class Preprocessor(abc.ABC):
    """Turns listed examples into model inputs."""

    @abc.abstractmethod
    def preprocess(self, splits: Splits, progress: Progress) -> dict[str, Prepared]:
        """Read every example once and return the splits ready for batching.

        Args:
          splits: The result of `Task.open_data`.
          progress: Called as examples are read.

        Returns:
          {"train" | "validation" | "test": the preprocessed split}.

        Raises:
          DataError: Listing every example that cannot be read.
        """

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Return a fingerprint of the preprocessing configuration.

        Equal fingerprints, on the same examples, mean equal results of `preprocess`.
        """

    @abc.abstractmethod
    def describe_input(self) -> str:
        """Return the model's input as a noun phrase, e.g. "texts of up to 128 tokens".

        Reports print it after "a backbone on".
        """

    @abc.abstractmethod
    def input_bytes(self) -> int:
        """Return the memory of one preprocessed example in bytes, at most."""


class Objective(abc.ABC):
    """What training minimizes and measures."""

    @abc.abstractmethod
    def loss(self, stage: Stage) -> keras.losses.Loss:
        """Return the training loss between y and the stage model's outputs, which are logits."""

    @abc.abstractmethod
    def metrics(self) -> list[keras.metrics.Metric]:
        """Return new Keras metrics, updated with y and logits during training and validation.

        Their names are those of `TaskConfig.training_metrics`, without "loss".
        """

    def output_monitors(self) -> list[OutputMonitor]:
        """Return monitors of the validation outputs that warn, e.g., of a collapsed model."""
        return []

    def check(self, stage: Stage) -> None:
        """Check a stage against the data before the long work starts.

        Raises:
          RecipeError: If they do not match, e.g. `Stage.class_weights` names an unknown class.
        """
        return


class Batches(abc.ABC):
    """Turns preprocessed splits into the batches that models consume."""

    @abc.abstractmethod
    def training(self, prepared: Prepared, stage: Stage, skip: int = 0) -> tf.data.Dataset:
        """Return an endless data set of shuffled and augmented batches for a stage.

        Batches depend only on the recipe, the stage and their number, so a resumed run sees those
        that an uninterrupted one would have seen.

        Args:
          prepared: The training split.
          stage: A stage of the recipe.
          skip: Number of batches to skip at the start; costs at most part of an epoch.

        Returns:
          (x, y) or (x, y, sample weights) batches. x is what the model takes; shapes of y and of
          the sample weights are those that the loss takes.
        """

    @abc.abstractmethod
    def evaluation(self, prepared: Prepared) -> tf.data.Dataset:
        """Return one pass over a split in stored order, without augmentation.

        Returns:
          (x, y) or (x, y, sample weights) batches, like those of `training`.
        """

    def augmented_views(self, prepared: Prepared, views: int) -> tf.data.Dataset:
        """Return `views` random augmentations of every training example, in any order.

        Called only if the task augments, i.e. `TaskConfig.augmentation_fingerprint` is not empty.

        Returns:
          Batches of (row numbers as defined by `Prepared.views`, int64 [batch]; x; y).
        """
        raise NotImplementedError(f"{type(self).__name__} has no augmentation.")


class Evaluator(abc.ABC):
    """Turns the outputs of a model into metrics and into examples for the report."""

    def predict(self, model: keras.Model, batches: tf.data.Dataset, devices: Devices) -> Outputs:
        """Run the whole model on a split.

        Args:
          model: From x to activated outputs, e.g. probabilities.
          batches: The result of `Batches.evaluation`.
          devices: The devices to run on.

        Returns:
          By default float32 [n, ...] in stored order, zero-padded to the longest batch; see
          `Outputs`.
        """
        return predict_batches(model, batches, devices)

    @abc.abstractmethod
    def evaluate(
        self, outputs: Outputs, prepared: Prepared, temperature: float | None = None
    ) -> dict[str, Any]:
        """Return all metrics of a split for the report.

        Args:
          outputs: The result of `predict` for the split.
          prepared: The split.
          temperature: The calibration temperature that `outputs` were computed with; None if they
            are not calibrated yet.

        Returns:
          JSON-serializable {name: metric}, among them "examples", the number of examples, and the
          metric that `TaskConfig.score` names. A metric with a confidence interval is {"value",
          "low", "high"}.
        """

    def temperature(self, outputs: Outputs, prepared: Prepared) -> float:
        """Return the calibration temperature, by which logits are divided.

        Args:
          outputs: The result of `predict` for the validation split.
          prepared: The validation split.
        """
        return 1.0

    @abc.abstractmethod
    def summary(self, metrics: Mapping[str, Any]) -> str:
        """Return the main metrics of a result of `evaluate` as one line for the console."""

    @abc.abstractmethod
    def report_examples(self, outputs: Outputs, prepared: Prepared) -> ReportExamples:
        """Return the worst mistakes and the least certain predictions for the report."""


class Exporter(abc.ABC):
    """Defines the exported SavedModel, from raw inputs to predictions."""

    def output_names(self) -> Sequence[str]:
        """Return the names along the last axis of the model's outputs; empty if it has none."""
        return ()

    @abc.abstractmethod
    def signatures(self, model: keras.Model) -> ServingSignatures:
        """Return the signatures of the exported SavedModel.

        Args:
          model: From x to activated outputs.
        """

    @abc.abstractmethod
    def samples(self, outputs: Outputs, prepared: Prepared, limit: int) -> Samples:
        """Return raw inputs to verify the exported model with, and the expected outputs.

        Args:
          outputs: The result of `Evaluator.predict` for the split.
          prepared: The split.
          limit: Maximum number of examples.

        Returns:
          The first m <= `limit` examples for every signature, and their expected outputs.
        """
