"""What the configurations of all text tasks share. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from typing_extensions import override

from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.task_config import TaskConfig
from sft_keras.tasks.smoke import smoke_stage

INT8_LIMITATION = (
    "int8 is not supported: the large negative attention mask exhausts the quantization range. "
    "Use the format in float32."
)
"""Why text models are exported only in float32, see `TaskConfig.export_limitation`."""
_SMOKE_BATCH_SIZE = 8
_SMOKE_LENGTH = 64
_TINY_BLOCKS = 3  # blocks of "tiny:bert"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTaskConfig(TaskConfig):
    """A task whose backbone is a transformer over tokens.

    Attributes:
      sequence_length: Maximum number of tokens per example, special tokens included.
      smoke_source: The `data.source` of `--smoke` runs.
    """

    modality: ClassVar = "text"
    presets: ClassVar = ("hub", "hf", "tiny")
    predict_argument: ClassVar = '"TEXT"'
    pipeline_tag: ClassVar = "text-classification"
    smoke_source: ClassVar = "synthetic:3"

    sequence_length: int

    @override
    def smoke_recipe(self, recipe: Recipe) -> Recipe:
        data = dataclasses.replace(
            recipe.data, source=self.smoke_source, columns={}, batch_size=_SMOKE_BATCH_SIZE
        )
        backbone = dataclasses.replace(
            recipe.backbone, preset="tiny:bert", weights=None, arguments={}
        )
        stages = tuple(
            stage
            if stage.unfreeze == "all"
            else dataclasses.replace(stage, unfreeze=min(stage.unfreeze, _TINY_BLOCKS))
            for stage in map(smoke_stage, recipe.stages)
        )
        task = dataclasses.replace(self, sequence_length=min(self.sequence_length, _SMOKE_LENGTH))
        return dataclasses.replace(recipe, task=task, data=data, backbone=backbone, stages=stages)
