"""Preprocessing of images to the size of a backbone's input."""

from __future__ import annotations

from typing_extensions import override

from sft_keras.data.examples import Splits
from sft_keras.data.prepared import Prepared
from sft_keras.recipe.recipe import Recipe
from sft_keras.tasks.parts import Preprocessor, Progress
from sft_keras.vision.decode import Fit
from sft_keras.vision.preprocess import prepare_images
from sft_keras.vision.transparency import Background


class ImagePreprocessor(Preprocessor):
    """Decodes and resizes images to `Backbone.image_size`."""

    def __init__(self, recipe: Recipe, fit: Fit, background: Background = "white") -> None:
        """`fit` says how images are resized, `background` what is behind transparent pixels."""
        self._recipe, self._fit, self._background = recipe, fit, background

    @override
    def preprocess(self, splits: Splits, progress: Progress) -> dict[str, Prepared]:
        return prepare_images(
            splits.by_name(),
            image_size=self._recipe.backbone.image_size,
            fit=self._fit,
            memory_share=self._recipe.data.memory_share,
            progress=progress,
            background=self._background,
        )

    @override
    def fingerprint(self) -> str:
        return f"{self._fit} {self._recipe.backbone.image_size} on {self._background}"

    @override
    def describe_input(self) -> str:
        height, width = self._recipe.backbone.image_size
        return f"images of {height} by {width} pixels (height by width)"

    @override
    def input_bytes(self) -> int:
        height, width = self._recipe.backbone.image_size
        return height * width * 3
