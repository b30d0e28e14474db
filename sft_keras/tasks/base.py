"""The contract between a task and the rest of the package.

A task is its configuration: a frozen dataclass with methods. The recipe holds the instance, so
nothing looks a task up by name. A method that needs TensorFlow imports it when it is called.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
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
    from sft_keras.evaluation.monitor import OutputMonitor
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
return an object of its own where the outputs of a whole split would not fit into memory, as those
of `MaskedLM`, whose logits are over a vocabulary. No other code looks inside.
"""


class Task(TaskConfig):
    """What is learnt: from raw examples to batches, from a backbone to a model, to figures."""

    def check_against_data(self, recipe: Recipe, info: DataInfo) -> None:
        """Checks the recipe against the data, before the long work.

        Raises:
          RecipeError: If it names classes that the data does not have, or the like.
        """
        return

    @abc.abstractmethod
    def open_data(self, recipe: Recipe, seed: int) -> Splits:
        """Finds and lists the examples and makes the splits that the source lacks; decodes nothing.

        Raises:
          DataError: Listing every fault that shows without decoding.
        """

    @abc.abstractmethod
    def build_backbone(self, recipe: Recipe) -> BuiltBackbone:
        """Builds the recipe's backbone, with its weights and blocks.

        Raises:
          BackboneError: If it is unknown, cannot be cut into blocks, or its weights are missing.
        """

    def backbone_fingerprint(self) -> str:
        """Returns all that decides on what `build_backbone` builds, beside the recipe's section."""
        return ""

    @abc.abstractmethod
    def preprocess(self, splits: Splits, recipe: Recipe, progress: Progress) -> dict[str, Prepared]:
        """Reads every example once; returns what is batched from, per split.

        Raises:
          DataError: Naming every example that cannot be read.
        """

    @abc.abstractmethod
    def preprocessing_fingerprint(self, recipe: Recipe) -> str:
        """Returns all that decides on what `prepare` makes of an example, but the data."""

    @abc.abstractmethod
    def describe_input(self, recipe: Recipe) -> str:
        """Returns what the model reads, to finish the sentence "a backbone on ..."."""

    @abc.abstractmethod
    def input_bytes(self, recipe: Recipe) -> int:
        """Returns how many bytes of memory what `prepare` reads of an example takes at the most."""

    @abc.abstractmethod
    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        """Returns the backbone with a new head for the classes of `info`."""

    @abc.abstractmethod
    def training_batches(
        self,
        prepared: Prepared,
        recipe: Recipe,
        stage: Stage,
        info: DataInfo,
        skip: int = 0,
    ) -> tf.data.Dataset:
        """Returns (x, y, sample weight) batches of a stage, epoch after epoch, without end.

        The first `skip` ones are left out, at no cost beyond that of a part of an epoch; the
        others are what they would be after those.
        """

    def augmented_views(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo, views: int
    ) -> tf.data.Dataset:
        """Returns each training input `views` times, changed at random, in any order.

        Elements are (rows int64 [batch], numbered as `Prepared.views` says; x; y). Not asked for
        where nothing is drawn at random.
        """
        raise NotImplementedError(f"{type(self).__name__} changes no input at random.")

    @abc.abstractmethod
    def evaluation_batches(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo
    ) -> tf.data.Dataset:
        """Returns (x, y) or (x, y, sample weight) batches of a split in stored order."""

    @abc.abstractmethod
    def loss(self, stage: Stage) -> keras.losses.Loss:
        """Returns the loss between y and the stage model's outputs (logits)."""

    @abc.abstractmethod
    def training_metrics(self) -> list[keras.metrics.Metric]:
        """Returns new metrics to watch while training."""

    def output_monitors(self, info: DataInfo) -> list[OutputMonitor]:
        """Returns what is to look at validation outputs, to warn of a model gone wrong."""
        return []

    def predict_outputs(
        self, model: keras.Model, batches: tf.data.Dataset, devices: Devices
    ) -> Outputs:
        """Returns what `evaluate` is to know of the model's answers to the batches of a split."""
        from sft_keras.evaluation.inference import answers

        return answers(model, batches, devices)

    @abc.abstractmethod
    def evaluate(
        self, outputs: Outputs, prepared: Prepared, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        """Returns the figures of one split from the outputs of `predict_outputs`, JSON-able.

        Those with an interval are {"value", "low", "high"}; the report shows them all.
        """

    def temperature(self, outputs: Outputs, prepared: Prepared) -> float:
        """Return the temperature fitted on the outputs for the validation split."""
        return 1.0

    @abc.abstractmethod
    def summary(self, metrics: dict[str, Any]) -> str:
        """Returns the main figures of what `evaluate` gave, in a line."""

    @abc.abstractmethod
    def score(self, metrics: dict[str, Any]) -> tuple[str, float]:
        """Returns name and value of the figure that runs are judged by; more is better."""

    @abc.abstractmethod
    def report_examples(
        self, outputs: Outputs, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        """Returns the worst mistakes, and the least certain answers, for the report."""

    def save_artifacts(self, staged: StagedModel, recipe: Recipe, folder: Path) -> list[str]:
        """Writes files of its own into the run folder; returns a sentence on each."""
        return []

    @abc.abstractmethod
    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        """Returns what the exported model answers."""

    def export_limitation(self, quantized: bool) -> str | None:
        """Returns why `sft_keras.export` cannot make a file of the model alone; "" if it can.

        Such a file has no preprocessing: it takes what `evaluation_batches` gives and answers
        probabilities, the classes on the last axis, of which the most probable one is the answer.

        Args:
          quantized: Whether the file is to compute in integers.
        """
        return "there is no comparison of what it answers."

    @abc.abstractmethod
    def signature_samples(
        self, outputs: Outputs, prepared: Prepared, limit: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        """Returns what to ask the exported model, and what it must answer.

        Args:
          outputs: The whole model's for the split.
          prepared: The split.
          limit: How many examples to ask about.

        Returns:
          Raw inputs for each endpoint by argument, the same examples for each; "probabilities" of
          its answers, [limit or less, ...].
        """


def smoke_stage(stage: Stage) -> Stage:
    """Returns a stage of two updates; a range test would find nothing to go by in noise."""
    return dataclasses.replace(
        stage,
        epochs=None,
        steps=2 * stage.accumulate,
        class_weights=None,
        learning_rate=1e-3 if stage.learning_rate == "auto" else stage.learning_rate,
    )
