"""The configuration of counting, and how a count is shown. Does not import TensorFlow."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sft_keras.recipe.metric import LOSS, Metric
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.section import Checks, section
from sft_keras.recipe.task_config import TaskConfig
from sft_keras.tasks.predictions import Prediction
from sft_keras.tasks.smoke import smoke_stage

COUNT_ERROR = Metric("count_error", label="count error", higher_is_better=False)


@section
class CountDots(TaskConfig):
    """Count the dots in an image, by Poisson regression.

    Attributes:
      dropout: Dropout rate of the pooled features, 0 or more and below 1.
    """

    implementation: ClassVar = "sft_counting.task:CountDotsTask"
    sources: ClassVar = ("dots",)
    presets: ClassVar = ("keras", "hub", "bundled")
    predict_argument: ClassVar = "FILE"
    pipeline_tag: ClassVar = "image-feature-extraction"
    modality: ClassVar = "image"
    score: ClassVar = COUNT_ERROR
    training_metrics: ClassVar = (LOSS, COUNT_ERROR)
    unsupported_fields: ClassVar = ("class_weights", "label_smoothing")

    dropout: float = 0.0

    def faults(self) -> list[str]:
        checks = Checks("task", self)
        checks.require("dropout", 0.0 <= self.dropout < 1.0, "0 or more and below 1")
        return checks.faults

    def smoke_recipe(self, recipe: Recipe) -> Recipe:
        data = dataclasses.replace(recipe.data, source="dots:24", batch_size=8)
        backbone = dataclasses.replace(recipe.backbone, weights=None)
        stages = tuple(map(smoke_stage, recipe.stages))
        return dataclasses.replace(recipe, data=data, backbone=backbone, stages=stages)

    def predictions(self, inputs: Sequence[str], outputs: Mapping[str, Any]) -> list[Prediction]:
        return [Count(name, value=float(count)) for name, count in zip(inputs, outputs["count"])]


@dataclasses.dataclass(frozen=True)
class Count(Prediction):
    """A number of dots."""

    def describe(self) -> str:
        return f"{self.value:5.1f} dots"
