"""Writes a text backbone and its tokenizer as a preset folder of KerasHub's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.text import text_preset, tiny_vocabulary
from sft_keras.recipe.backbone import Backbone
from sft_keras.text.encoder import load_hub_tokenizer


def save_text_preset(built: BuiltBackbone, backbone: Backbone, folder: Path) -> None:
    """Writes the backbone, with the weights that it has now, so that "hub:FOLDER" loads it.

    Args:
      built: From `build_text_backbone`. What is written is the network of KerasHub's that it was
        made of, and shares all layers with.
      backbone: What it was built from; says which tokenizer goes with it.
      folder: Where to write; made if it is not there.
    """
    built.hub_model.save_to_preset(str(folder))
    _tokenizer(backbone).save_to_preset(str(folder))


def _tokenizer(backbone: Backbone) -> Any:
    import keras_hub

    if backbone.preset.startswith("tiny:"):
        return keras_hub.models.BertTokenizer(list(tiny_vocabulary()), lowercase=True)
    return load_hub_tokenizer(text_preset(backbone))
