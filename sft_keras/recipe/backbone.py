"""The recipe section that names the pretrained backbone. Standard library only."""

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


PRETRAINED = ("pretrained", "imagenet")


@section
class Backbone:
    """The pretrained network below the head.

    Attributes:
      preset: "hub:PRESET" (a KerasHub preset, or the path of a preset folder); for images
        "keras:NAME" (keras.applications) or "bundled:efficientnet_lite0"; for texts "hf:FOLDER"
        (what `save_pretrained` of Hugging Face's makes) or "tiny:bert" (two layers, for trying a
        recipe).
      weights: "pretrained" (what the preset was trained to; "imagenet" says the same), a weights
        file's path, or None for random weights.
      image_size: (height, width) in pixels.
      arguments: Further arguments of the constructor, e.g. {"alpha": 0.75} for MobileNet.
    """

    preset: str
    weights: str | None = "pretrained"
    image_size: tuple[int, int] = (224, 224)
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_pretrained(self) -> bool:
        """Whether the weights are those that come with the preset."""
        return self.weights in PRETRAINED

    def faults(self) -> list[str]:
        """Returns what is wrong with these fields, one sentence each."""
        checks = Checks("backbone", self)
        known = ("keras", "hub", "hf", "bundled", "tiny")
        kind, _, name = self.preset.partition(":")
        if kind not in known or not name:
            checks.found.append(
                "`backbone.preset` must be 'keras:NAME', 'hub:PRESET', 'hf:FOLDER', "
                f"'bundled:NAME' or 'tiny:bert'. Received: {self.preset!r}."
                f"{did_you_mean(kind, known)}"
            )
        elif kind == "keras" and name not in KERAS_PRESETS:
            hint = did_you_mean(name, KERAS_PRESETS) or f" Known: {', '.join(KERAS_PRESETS)}."
            checks.found.append(
                "`backbone.preset` must name a network of keras.applications that is known here. "
                f"Received: {self.preset!r}.{hint}"
            )
        size = self.image_size
        checks.require("image_size", min(size) > 0, "(height, width), both above 0")
        return checks.found
