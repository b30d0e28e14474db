"""Build the backbone of a recipe from its preset."""

from __future__ import annotations

from sft_keras.backbones.applications import APPLICATIONS, build_application
from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.hub import BUNDLED, build_bundled, build_hub_preset
from sft_keras.backbones.keras_file import build_keras_file
from sft_keras.recipe.backbone import Backbone

# The presets that are listed in this package; "hub:" accepts any KerasHub preset as well.
KNOWN_PRESETS: tuple[str, ...] = (
    *(f"keras:{name}" for name in APPLICATIONS),
    *(f"bundled:{name}" for name in BUNDLED),
)


def build_backbone(backbone: Backbone) -> BuiltBackbone:
    """Build an image backbone with its weights, input scaling and blocks.

    Random weights are drawn from Keras' global seed. The global dtype policy applies.

    Args:
      backbone: The section of the recipe, whose fields `Recipe.validate` has checked.

    Raises:
      BackboneError: If the preset is unknown, cannot be divided into blocks, or its weights are
        missing.

    Example:

    ```python
    built = build_backbone(Backbone(preset="keras:mobilenet_v2", image_size=(224, 224)))
    len(built.blocks)  # 18
    ```
    """
    kind, _, name = backbone.preset.partition(":")
    builders = {
        "keras": build_application,
        "hub": build_hub_preset,
        "bundled": build_bundled,
        "file": build_keras_file,
    }
    return builders[kind](name, backbone)
