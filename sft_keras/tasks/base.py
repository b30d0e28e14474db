"""The contract between a task and the rest of the package.

A task is its configuration, a frozen dataclass that the recipe holds, with methods. They are called
in this order:

    open_data -> build_backbone -> preprocess -> build_model
    per stage:   training_batches, loss, training_metrics, output_monitors
    per split:   evaluation_batches -> predict_outputs -> evaluate -> summary, score
    at the end:  temperature, report_examples, save_artifacts, signatures, signature_samples

Recipes are checked and printed without TensorFlow, so importing a task must not import it: methods
that need it import it themselves.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_keras.recipe.task_config import TaskConfig

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from sft_keras.backbones.blocks import BuiltBackbone
    from sft_keras.data.examples import DataInfo, Splits
    from sft_keras.data.prepared import Prepared
    from sft_keras.distributed.devices import Devices
    from sft_keras.evaluation.output_monitors import OutputMonitor
    from sft_keras.models.staged import StagedModel
    from sft_keras.recipe.recipe import Recipe
    from sft_keras.recipe.stage import Stage
    from sft_keras.tasks.examples import ReportExamples
    from sft_keras.tasks.signatures import ServingSignatures

Progress = Callable[[int, int], None]
"""Called with (done, total) during a long operation."""

Outputs = Any
"""What `Task.predict_outputs` returns and the same task's methods read.

By default the model's outputs for a split in stored order, a float32 array [n, ...]. A task may
return an object of its own where the outputs of a whole split would not fit into memory, such as
those of `MaskedLM` over a vocabulary. Other code only hands it back to the task, except that
temperature scaling is applied to the outputs of tasks whose metrics include "calibration".
"""


class Task(TaskConfig):
    """Everything that depends on the kind of prediction, from raw examples to served signatures.

    Subclasses implement the abstract methods; the others have defaults that suit most tasks.
    """

    def check_against_data(self, recipe: Recipe, info: DataInfo) -> None:
        """Check the recipe against the data before the long work starts.

        Raises:
          RecipeError: If they do not match, e.g. `Stage.class_weights` names an unknown class.
        """
        return

    @abc.abstractmethod
    def open_data(self, recipe: Recipe, seed: int) -> Splits:
        """List the examples and create the splits that the source lacks, without decoding.

        Args:
          recipe: Its `data` section says where the examples are.
          seed: Seed of the random splits.

        Raises:
          DataError: Listing every fault that shows without decoding.
        """

    @abc.abstractmethod
    def build_backbone(self, recipe: Recipe) -> BuiltBackbone:
        """Build the recipe's backbone, load its weights and split it into blocks.

        Raises:
          BackboneError: If it is unknown, cannot be split into blocks, or its weights are missing.
        """

    def backbone_fingerprint(self) -> str:
        """Return the task's fields that `build_backbone` depends on, as part of cache keys.

        The recipe's `backbone` section is included elsewhere.
        """
        return ""

    @abc.abstractmethod
    def preprocess(self, splits: Splits, recipe: Recipe, progress: Progress) -> dict[str, Prepared]:
        """Read every example once and return the splits ready for batching.

        Args:
          splits: The result of `open_data`.
          recipe: The run's recipe.
          progress: Called as examples are read.

        Returns:
          {"train" | "validation" | "test": the preprocessed split}.

        Raises:
          DataError: Listing every example that cannot be read.
        """

    @abc.abstractmethod
    def preprocessing_fingerprint(self, recipe: Recipe) -> str:
        """Return a fingerprint of the preprocessing configuration.

        Equal fingerprints, on the same examples, mean equal results of `preprocess`.
        """

    @abc.abstractmethod
    def describe_input(self, recipe: Recipe) -> str:
        """Return the model's input as a noun phrase, e.g. "texts of up to 128 tokens".

        Reports print it after "a backbone on".
        """

    @abc.abstractmethod
    def input_bytes(self, recipe: Recipe) -> int:
        """Return the memory of one preprocessed example in bytes, at most."""

    @abc.abstractmethod
    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        """Return the backbone with a new head that fits the targets described by `info`."""

    @abc.abstractmethod
    def training_batches(
        self,
        prepared: Prepared,
        recipe: Recipe,
        stage: Stage,
        info: DataInfo,
        skip: int = 0,
    ) -> tf.data.Dataset:
        """Return an endless data set of shuffled and augmented batches for a stage.

        Batches depend only on the recipe, the stage and their number, so a resumed run sees those
        that an uninterrupted one would have seen.

        Args:
          prepared: The training split.
          recipe: The run's recipe.
          stage: One of its stages.
          info: Facts about the data.
          skip: Number of batches to skip at the start; costs at most part of an epoch.

        Returns:
          (x, y, sample weights) batches. x is what the model takes; shapes of y and of the sample
          weights are those that `loss` takes.
        """

    def augmented_views(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo, views: int
    ) -> tf.data.Dataset:
        """Return `views` random augmentations of every training example, in any order.

        Called only if the task augments, i.e. `augmentation_fingerprint` is not empty.

        Returns:
          Batches of (row numbers as defined by `Prepared.views`, int64 [batch]; x; y).
        """
        raise NotImplementedError(f"{type(self).__name__} has no augmentation.")

    @abc.abstractmethod
    def evaluation_batches(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo
    ) -> tf.data.Dataset:
        """Return one pass over a split in stored order, without augmentation.

        Returns:
          (x, y) or (x, y, sample weights) batches, like those of `training_batches`.
        """

    @abc.abstractmethod
    def loss(self, stage: Stage) -> keras.losses.Loss:
        """Return the training loss between y and the stage model's outputs, which are logits."""

    @abc.abstractmethod
    def training_metrics(self) -> list[keras.metrics.Metric]:
        """Return new Keras metrics, updated with y and logits during training and validation."""

    def output_monitors(self, info: DataInfo) -> list[OutputMonitor]:
        """Return monitors of the validation outputs that warn, e.g., of a collapsed model."""
        return []

    def predict_outputs(
        self, model: keras.Model, batches: tf.data.Dataset, devices: Devices
    ) -> Outputs:
        """Run the whole model on a split.

        Args:
          model: From x to activated outputs, e.g. probabilities.
          batches: The result of `evaluation_batches`.
          devices: The devices to run on.

        Returns:
          By default float32 [n, ...] in stored order, zero-padded to the longest batch; see
          `Outputs`.
        """
        from sft_keras.evaluation.inference import predict_batches

        return predict_batches(model, batches, devices)

    @abc.abstractmethod
    def evaluate(
        self, outputs: Outputs, prepared: Prepared, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        """Return all metrics of a split for the report.

        Args:
          outputs: The result of `predict_outputs` for the split.
          prepared: The split.
          info: Facts about the data.
          seed: Seed of the bootstrap.

        Returns:
          JSON-serializable {name: metric}. A metric with a confidence interval is {"value", "low",
          "high"}. "calibration" may be present only if `outputs` are class probabilities, float32
          [n, num_classes].
        """

    def temperature(self, outputs: Outputs, prepared: Prepared) -> float:
        """Return the calibration temperature, by which logits are divided.

        Args:
          outputs: The result of `predict_outputs` for the validation split.
          prepared: The validation split.
        """
        return 1.0

    @abc.abstractmethod
    def summary(self, metrics: Mapping[str, Any]) -> str:
        """Return the main metrics of a result of `evaluate` as one line for the console."""

    @abc.abstractmethod
    def score(self, metrics: Mapping[str, Any]) -> tuple[str, float]:
        """Return name and value of the metric that ranks runs; higher is better."""

    @abc.abstractmethod
    def report_examples(
        self, outputs: Outputs, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        """Return the worst mistakes and the least certain predictions for the report."""

    def save_artifacts(self, staged: StagedModel, recipe: Recipe, folder: Path) -> list[str]:
        """Save task-specific artifacts in the run folder; return one log line per artifact."""
        return []

    @abc.abstractmethod
    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        """Return the signatures of the exported SavedModel, from raw inputs to predictions."""

    def export_limitation(self, quantized: bool) -> str | None:
        """Return why LiteRT/ONNX export is unsupported, or None.

        Such an export has no preprocessing. It takes x of `evaluation_batches` and returns
        probabilities with the classes on the last axis, so that it can be compared with the trained
        model.

        Args:
          quantized: Whether the export computes in int8.

        Returns:
          The reason, as the end of an error message.
        """
        return "its predictions cannot be compared with those of the trained model."

    @abc.abstractmethod
    def signature_samples(
        self, outputs: Outputs, prepared: Prepared, limit: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        """Return raw inputs to verify the exported model with, and the expected outputs.

        Args:
          outputs: The result of `predict_outputs` for the split.
          prepared: The split.
          limit: Maximum number of examples.

        Returns:
          {signature: {argument: [m, ...]}}, the first m <= `limit` examples for every signature;
          and the expected values of `ServingSignatures.compared`, [m, ...].
        """


def task_of(recipe: Recipe) -> Task:
    """Return the recipe's task with its working half.

    Raises:
      TypeError: If it is a configuration only.
    """
    if not isinstance(recipe.task, Task):
        raise TypeError(
            f"The task of a recipe must be a sft_keras.tasks.base.Task to be run. "
            f"Received: {type(recipe.task).__name__}."
        )
    return recipe.task


def smoke_stage(stage: Stage) -> Stage:
    """Return the stage shortened to two updates, for `Task.smoke_recipe`.

    "auto" learning rates become 1e-3: a learning-rate finder has nothing to find in noise.
    """
    return dataclasses.replace(
        stage,
        epochs=None,
        steps=2 * stage.accumulate,
        class_weights=None,
        learning_rate=1e-3 if stage.learning_rate == "auto" else stage.learning_rate,
    )
