"""Load presets of KerasHub, with errors that explain what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras

from sft_keras.backbones.downloads import watched_downloads
from sft_keras.backbones.weights_file import check_weights_file, load_weights_file
from sft_keras.core.errors import BackboneError
from sft_keras.recipe.backbone import Backbone

# Raised by KerasHub and h5py for a preset that is damaged or has an unexpected configuration.
_PRESET_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def load_preset(hub_class: Any, preset: str, backbone: Backbone, **arguments: Any) -> keras.Model:
    """Load the model of a preset with the weights that the recipe sets.

    Args:
      hub_class: A class of `keras_hub.models`, or `Backbone` for any.
      preset: The name, address or folder of the preset.
      backbone: The section of the recipe.
      **arguments: Passed on to the class.

    Raises:
      BackboneError: If the preset is missing or cannot be built with these arguments, or the
        weights file does not fit.
    """
    has_weights_file = not backbone.is_pretrained and backbone.weights is not None
    file = check_weights_file(backbone) if has_weights_file else None
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
    """Return the config.json of a preset folder.

    Args:
      file: The path of the config.json.
      backbone: The section of the recipe, for error messages.

    Raises:
      BackboneError: If it is no JSON object.
    """
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BackboneError(
            f"{backbone.preset} cannot be loaded: {file} is not valid JSON: {error}. Copy the "
            "folder again."
        ) from error
    if not isinstance(config, dict):
        raise BackboneError(
            f"{backbone.preset} cannot be loaded: {file} must contain a JSON object, as "
            f"`save_to_preset` writes it. Received: {str(config)[:80]}."
        )
    return config


def from_hub(source: Any, preset: str, backbone: Backbone, **arguments: Any) -> Any:
    """Call `source.from_preset`, and turn its errors into ones that show the recipe's settings.

    Args:
      source: A class of KerasHub with a method `from_preset`.
      preset: The name, address or folder of the preset.
      backbone: The section of the recipe, for error messages.
      **arguments: Passed on to `from_preset`.

    Raises:
      BackboneError: If the preset cannot be downloaded or loaded.
    """
    try:
        with watched_downloads() as addresses:
            return source.from_preset(preset, **arguments)
    except Exception as error:  # Every hub's client raises its own errors.
        if addresses:
            raise BackboneError(
                f"{backbone.preset} is not on this machine and could not be downloaded: {error}\n"
                "Load it once on a machine with a network and copy the cache of kagglehub or "
                "huggingface_hub, pass a preset folder as "
                "--set=backbone.preset=hub:FOLDER, or try --recipe=quickstart, which needs no "
                "network."
            ) from error
        if isinstance(error, _PRESET_ERRORS):
            raise BackboneError(
                f"{backbone.preset} cannot be loaded with image_size={backbone.image_size}, "
                f"weights={backbone.weights!r} and arguments={dict(backbone.arguments)}. "
                f"KerasHub reports: {error}"
            ) from error
        raise
