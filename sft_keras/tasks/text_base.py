"""What tasks on texts have in common. Importing it does not import TensorFlow."""

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
    "attention has a huge negative score where there is padding, beside which integers leave "
    "nothing of the others. Take the format in float32."
)
"""Why a text model computes in floats alone, see `Task.export_limitation`."""
_SMOKE_BATCH_SIZE = 8
_SMOKE_LENGTH = 64
_TINY_BLOCKS = 3  # of "tiny:bert"


class TextTask(Task):
    """A transformer reads tokens.

    Attributes:
      sequence_length: The most tokens of an example, special ones included.
      smoke_source: What `--smoke` reads.
    """

    presets: ClassVar = ("hub", "hf", "tiny")
    predict_argument: ClassVar = '"TEXT"'
    pipeline_tag: ClassVar = "text-classification"
    smoke_source: ClassVar = "synthetic:3"

    sequence_length: int

    def output(self) -> Output:
        """Returns what of a text the head sees."""
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

        return build_text_backbone(recipe.backbone, self.output(), self.sequence_length)

    @override
    def backbone_fingerprint(self) -> str:
        return self.output()

    @override
    def describe_input(self, recipe: Recipe) -> str:
        return f"texts of up to {self.sequence_length} tokens"

    @override
    def input_bytes(self, recipe: Recipe) -> int:
        return self.sequence_length * 4

    def encoder(self, recipe: Recipe) -> TextEncoder:
        """Returns what splits texts into the backbone's tokens."""
        from sft_keras.text.encoder import build_encoder

        return build_encoder(recipe.backbone, self.sequence_length)
