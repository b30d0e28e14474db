"""Loading what KerasHub calls a preset, with errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras

from sft_keras.backbones.downloads import watched_downloads
from sft_keras.backbones.weights_file import check_weights_file, load_weights_file
from sft_keras.core.errors import BackboneError
from sft_keras.recipe.backbone import Backbone

# What KerasHub and h5py raise for a preset that is damaged or says what nobody expects.
_OF_THE_PRESET = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def load_preset(hub_class: Any, preset: str, backbone: Backbone, **arguments: Any) -> keras.Model:
    """Returns a preset's network with the weights that the recipe asks for.

    Raises:
      BackboneError: If it is not there, cannot be built so, or the weights file does not fit.
    """
    own = backbone.is_pretrained or backbone.weights is None
    file = None if own else check_weights_file(backbone)
    model = from_hub(
        hub_class,
        preset,
        backbone,
        load_weights=backbone.is_pretrained,
        dtype=keras.config.dtype_policy(),
        **arguments,
    )
    if file:
        load_weights_file(model, file, backbone)
    return model


def read_config(file: Path, backbone: Backbone) -> dict[str, Any]:
    """Returns what the config.json of a preset folder holds.

    Raises:
      BackboneError: If that is no JSON object.
    """
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BackboneError(
            f"{backbone.preset} cannot be loaded: {file} must be JSON, and is not: {error}. Copy "
            "the folder anew."
        ) from error
    if not isinstance(config, dict):
        raise BackboneError(
            f"{backbone.preset} cannot be loaded: {file} must hold a JSON object, as "
            f"`save_to_preset` writes it. Received: {str(config)[:80]}."
        )
    return config


def from_hub(source: Any, preset: str, backbone: Backbone, **arguments: Any) -> Any:
    """Calls `source.from_preset`; says what is wrong where KerasHub raises bare errors."""
    try:
        with watched_downloads() as asked:
            return source.from_preset(preset, **arguments)
    except Exception as error:  # Each hub's client raises errors of its own.
        if asked:
            raise BackboneError(
                f"{backbone.preset} is not on this machine and could not be downloaded: {error}\n"
                "Load it once where there is a network and copy the cache of "
                "kagglehub or huggingface_hub, pass a preset folder as "
                "--set=backbone.preset=hub:FOLDER, or try --recipe=quickstart, which needs no "
                "network."
            ) from error
        if isinstance(error, _OF_THE_PRESET):
            raise BackboneError(
                f"{backbone.preset} cannot be loaded with image_size={backbone.image_size}, "
                f"weights={backbone.weights!r} and arguments={dict(backbone.arguments)}. "
                f"KerasHub says: {error}"
            ) from error
        raise
