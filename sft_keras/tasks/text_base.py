"""What the working halves of all text tasks share."""

from __future__ import annotations

import abc
import functools
from typing import TypeVar

from typing_extensions import override

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.text import Output, build_text_backbone
from sft_keras.recipe.recipe import Recipe
from sft_keras.tasks.base import Task
from sft_keras.tasks.parts import Preprocessor
from sft_keras.tasks.text_config import TextTaskConfig
from sft_keras.text.encoder import TextEncoder, build_encoder

Config_co = TypeVar("Config_co", bound=TextTaskConfig, covariant=True)


class TextTask(Task[Config_co], abc.ABC):
    """A task whose backbone is a transformer over tokens."""

    def backbone_output(self) -> Output:
        """Return which output of the backbone the head takes."""
        return "tokens"

    @override
    def build_backbone(self) -> BuiltBackbone:
        length = self.config.sequence_length
        return build_text_backbone(self.recipe.backbone, self.backbone_output(), length)

    @override
    def backbone_fingerprint(self) -> str:
        return self.backbone_output()

    @functools.cached_property
    def encoder(self) -> TextEncoder:
        """The backbone's tokenizer with truncation and padding to `sequence_length`."""
        return build_encoder(self.recipe.backbone, self.config.sequence_length)


class TextPreprocessor(Preprocessor, abc.ABC):
    """Turns texts into tokens."""

    def __init__(self, task: TextTask[TextTaskConfig]) -> None:
        """`task` has the tokenizer, which is built when it is first needed."""
        self._task = task

    @property
    def recipe(self) -> Recipe:
        """The recipe of the task."""
        return self._task.recipe

    @override
    def describe_input(self) -> str:
        return f"texts of up to {self._task.config.sequence_length} tokens"

    @override
    def input_bytes(self) -> int:
        return self._task.config.sequence_length * 4
