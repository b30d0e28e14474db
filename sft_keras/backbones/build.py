"""Build the backbone that a recipe names."""

from __future__ import annotations

from sft_keras.backbones.applications import APPLICATIONS, build_application
from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.hub import BUNDLED, build_bundled, build_hub_preset
from sft_keras.recipe.backbone import Backbone

# The presets with a row of their own; "hub:" takes any KerasHub preset besides.
KNOWN_PRESETS: tuple[str, ...] = (
    *(f"keras:{name}" for name in APPLICATIONS),
    *(f"bundled:{name}" for name in BUNDLED),
)


def build_backbone(backbone: Backbone) -> BuiltBackbone:
    """Builds the backbone a recipe asks for, with its weights, scaling and blocks.

    Random weights are drawn from Keras' global seed, and the global dtype policy holds.

    Args:
      backbone: The recipe's section; `Recipe.validate` has checked its fields one by one.

    Raises:
      BackboneError: If it is unknown, cannot be cut into blocks, or its weights are missing.
    """
    kind, _, name = backbone.preset.partition(":")
    builders = {"keras": build_application, "hub": build_hub_preset, "bundled": build_bundled}
    return builders[kind](name, backbone)
