"""Base class of text tasks. Importing this does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from sft_keras.tasks.base import Task, smoke_stage

if TYPE_CHECKING:
    from sft_keras.backbones.blocks import BuiltBackbone
    from sft_keras.backbones.text import Output
    from sft_keras.recipe.recipe import Recipe
    from sft_keras.text.encoder import TextEncoder

INT8_LIMITATION = (
    "int8 is not supported: the large negative attention mask exhausts the quantization range. "
    "Use the format in float32."
)
"""Why text models are exported only in float32, see `Task.export_limitation`."""
_SMOKE_BATCH_SIZE = 8
_SMOKE_LENGTH = 64
_TINY_BLOCKS = 3  # blocks of "tiny:bert"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTask(Task):
    """A task whose backbone is a transformer over tokens.

    Attributes:
      sequence_length: Maximum number of tokens per example, special tokens included.
      smoke_source: The `data.source` of `--smoke` runs.
    """

    presets: ClassVar = ("hub", "hf", "tiny")
    predict_argument: ClassVar = '"TEXT"'
    pipeline_tag: ClassVar = "text-classification"
    smoke_source: ClassVar = "synthetic:3"

    sequence_length: int

    def backbone_output(self) -> Output:
        """Return which output of the backbone the head takes."""
        return "tokens"

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

    @override
    def build_backbone(self, recipe: Recipe) -> BuiltBackbone:
        from sft_keras.backbones.text import build_text_backbone

        return build_text_backbone(recipe.backbone, self.backbone_output(), self.sequence_length)

    @override
    def backbone_fingerprint(self) -> str:
        return self.backbone_output()

    @override
    def describe_input(self, recipe: Recipe) -> str:
        return f"texts of up to {self.sequence_length} tokens"

    @override
    def input_bytes(self, recipe: Recipe) -> int:
        return self.sequence_length * 4

    def encoder(self, recipe: Recipe) -> TextEncoder:
        """Return the backbone's tokenizer with truncation and padding to `sequence_length`."""
        from sft_keras.text.encoder import build_encoder

        return build_encoder(recipe.backbone, self.sequence_length)
