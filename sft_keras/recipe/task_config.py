"""The configuration of a task, which a recipe checks and prints. Standard library only.

`sft_keras.tasks.base.build_task` makes the working half, which may import TensorFlow.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from sft_keras.recipe.metric import ACCURACY, LOSS, Metric
from sft_keras.recipe.stage import Stage


class TaskConfig(abc.ABC):
    """Configuration of a task; a subclass is a frozen dataclass with the task's settings.

    Attributes:
      implementation: The working half, a subclass of `sft_keras.tasks.base.Task`, or its
        "module:name", which is imported only when it is needed.
      sources: Supported kinds of `data.source`, e.g. "csv"; in-memory sources by class name.
      presets: Supported kinds of `backbone.preset`, e.g. "hub".
      predict_argument: Placeholder for the argument of `sft_keras.predict`, e.g. "FILE".
      pipeline_tag: The task's name on the Hugging Face Hub, for the model card.
      modality: What examples are, "image" or "text"; decides which files `sft_keras.check` reads.
      display: How front ends show a prediction: "class_scores", "labels", "number", "marked_text",
        "answer", or "line", which is `Prediction.describe` and works for every task.
      example: An input to try, one value per argument of the exported model; empty for none.
      score: The metric of a split that ranks runs, one of the keys of `Evaluator.evaluate`.
      test_metrics: Those other metrics of a split that are no shares; reports show all others that
        have a confidence interval in percent.
      training_metrics: The metrics of an epoch, which `Stage.monitor` may name after "val_".
      unsupported_fields: Fields of `Stage` that the task ignores; they must keep their defaults.
      evaluates_before_training: Whether the untrained model is validated first because it already
        performs the task; its weights are kept if no epoch of the first stage is better.
      service_sources: Kinds of `data.source` that workers of a tf.data service can read.
      supports_views: Whether augmented inputs may be cached, see `Store.views`.
    """

    implementation: ClassVar[str | type]
    sources: ClassVar[tuple[str, ...]]
    presets: ClassVar[tuple[str, ...]]
    predict_argument: ClassVar[str]
    pipeline_tag: ClassVar[str]
    modality: ClassVar[str]
    display: ClassVar[str] = "line"
    example: ClassVar[tuple[str, ...]] = ()
    score: ClassVar[Metric] = ACCURACY
    test_metrics: ClassVar[tuple[Metric, ...]] = ()
    training_metrics: ClassVar[tuple[Metric, ...]] = (LOSS, ACCURACY)
    unsupported_fields: ClassVar[tuple[str, ...]] = ()
    evaluates_before_training: ClassVar[bool] = False
    service_sources: ClassVar[tuple[str, ...]] = ()
    supports_views: ClassVar[bool] = True

    @abc.abstractmethod
    def faults(self) -> list[str]:
        """Return one sentence for each field of the task whose value is wrong."""

    def stage_faults(self, stage: Stage) -> list[str]:
        """Return one sentence for each field of a stage that the task does not support."""
        task, faults = type(self).__name__, []
        monitors = self.monitors()
        if stage.monitor not in monitors:
            faults.append(
                f"`stages.{stage.name}.monitor` for {task} must be one of "
                f"{', '.join(monitors)}. Received: {stage.monitor!r}."
            )
        defaults = {field.name: field.default for field in dataclasses.fields(stage)}
        return faults + [
            f"`stages.{stage.name}.{name}` is not supported by {task}. "
            f"Received: {getattr(stage, name)!r}. Remove it."
            for name in self.unsupported_fields
            if getattr(stage, name) != defaults[name]
        ]

    def monitors(self) -> dict[str, Metric]:
        """Return the metrics that `Stage.monitor` may name, by that name."""
        return {f"val_{metric.name}": metric for metric in self.training_metrics}

    @abc.abstractmethod
    def smoke_recipe(self, recipe: Any) -> Any:
        """Return the recipe reduced to synthetic data and random weights, to run within seconds."""

    def augmentation_fingerprint(self) -> str:
        """Return a fingerprint of the augmentation configuration; "" without augmentation."""
        return ""

    def without_augmentation(self) -> Self:
        """Return the task without random augmentation."""
        return self

    def drops_duplicates(self) -> bool:
        """Return whether examples that occur twice are dropped when data is opened."""
        return False

    def keeping_duplicates(self) -> Self:
        """Return the task without dropping duplicates, so that they can be reported."""
        return self

    @abc.abstractmethod
    def predictions(self, inputs: Sequence[str], outputs: Mapping[str, Any]) -> list[Any]:
        """Decode the outputs of the exported model; must not need TensorFlow.

        Args:
          inputs: What each prediction is for: the path of a file, or a text.
          outputs: {output: array} of a call to "serving_default" on these inputs.

        Returns:
          One `sft_keras.tasks.predictions.Prediction` per input, in order.
        """

    def export_limitation(self, quantized: bool) -> str | None:
        """Return why LiteRT/ONNX export is unsupported, or None.

        Such an export has no preprocessing. It takes x of evaluation batches and returns
        probabilities with the classes on the last axis, so that it can be compared with the trained
        model.

        Args:
          quantized: Whether the export computes in int8.

        Returns:
          The reason, as the end of an error message.
        """
        return "its predictions cannot be compared with those of the trained model."
