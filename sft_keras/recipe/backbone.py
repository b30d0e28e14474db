"""The recipe section of the pretrained backbone. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sft_keras.recipe.section import Checks, did_you_mean, section

KERAS_PRESETS: tuple[str, ...] = (
    *("vgg16", "vgg19"),
    *("resnet50", "resnet101", "resnet152", "resnet50v2", "resnet101v2", "resnet152v2"),
    *("mobilenet", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *(f"efficientnet_b{size}" for size in range(8)),
    *(f"efficientnet_v2_{size}" for size in ("b0", "b1", "b2", "b3", "s", "m", "l")),
    *("densenet121", "densenet169", "densenet201", "inception_v3", "xception"),
    *(f"convnext_{size}" for size in ("tiny", "small", "base", "large", "xlarge")),
)
"""Names of keras.applications that "keras:NAME" accepts."""

PRETRAINED = ("pretrained", "imagenet")
"""Values of `Backbone.weights` that stand for the preset's pretrained weights."""


@section
class Backbone:
    """The pretrained network below the head.

    Attributes:
      preset: "hub:PRESET" (a KerasHub preset or the path of a preset folder); for images also
        "keras:NAME" (keras.applications), "bundled:efficientnet_lite0" or "file:MODEL.keras" (a
        model of your own, see `backbones.keras_file`); for texts also "hf:FOLDER" (a folder
        written by Hugging Face's `save_pretrained`) or "tiny:bert" (two layers, for trying out a
        recipe).
      weights: "pretrained" for the preset's weights ("imagenet" is a synonym), the path of a
        weights file, or None for random weights.
      image_size: (height, width) in pixels.
      arguments: Additional constructor arguments, e.g. {"alpha": 0.75} for MobileNet.

    Example:
      >>> from sft_keras import Backbone
      >>> backbone = Backbone(preset="keras:mobilenet", arguments={"alpha": 0.75})
      >>> backbone.image_size, backbone.is_pretrained
      ((224, 224), True)
    """

    preset: str
    weights: str | None = "pretrained"
    image_size: tuple[int, int] = (224, 224)
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_pretrained(self) -> bool:
        """Whether the preset's pretrained weights are loaded."""
        return self.weights in PRETRAINED

    def faults(self) -> list[str]:
        """Return one sentence for each field whose value is wrong."""
        checks = Checks("backbone", self)
        known = ("keras", "hub", "hf", "bundled", "file", "tiny")
        kind, _, name = self.preset.partition(":")
        if kind not in known or not name:
            checks.faults.append(
                "`backbone.preset` must be 'keras:NAME', 'hub:PRESET', 'hf:FOLDER', "
                f"'bundled:NAME', 'file:MODEL.keras' or 'tiny:bert'. Received: {self.preset!r}."
                f"{did_you_mean(kind, known)}"
            )
        elif kind == "keras" and name not in KERAS_PRESETS:
            hint = did_you_mean(name, KERAS_PRESETS) or f" Supported: {', '.join(KERAS_PRESETS)}."
            checks.faults.append(
                "`backbone.preset` must name a supported model of keras.applications. "
                f"Received: {self.preset!r}.{hint}"
            )
        size = self.image_size
        checks.require("image_size", min(size) > 0, "(height, width), both greater than 0")
        return checks.faults
