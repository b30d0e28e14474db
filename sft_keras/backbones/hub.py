"""The image backbones of KerasHub: its presets, preset folders, and the preset bundled here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from sft_keras.backbones.blocks import BuiltBackbone, find_blocks
from sft_keras.backbones.hub_presets import from_hub, load_preset, read_config
from sft_keras.backbones.scaling import affine
from sft_keras.core.errors import BackboneError
from sft_keras.recipe.backbone import Backbone
from sft_keras.recipe.section import did_you_mean

# Class in keras_hub.models -> names of the layers of a block; see `find_blocks`.
HUB_FAMILIES: dict[str, str] = {
    # Paths run past the blocks of a cross-stage network: only its stages have boundaries.
    "CSPNetBackbone": r"(stage_\d+)_",
    "DenseNetBackbone": r"(?:stack|transition)(?P<stack>\d)_",
    "EfficientNetBackbone": r"(block\d[a-z]+)_",
    "MobileNetBackbone": r"(block_\d+_\d+)$",
    "ResNetBackbone": r"(stack\d+_block\d+)_",
    "VGGBackbone": r"(block\d)_",
    "XceptionBackbone": r"(block\d+)_",
}
_ONE_LAYER = "it runs all its blocks inside one layer"
# Class -> why it is refused.
_REFUSED: dict[str, str] = {
    **dict.fromkeys(("ViTBackbone", "DeiTBackbone", "HGNetV2Backbone"), _ONE_LAYER),
    **dict.fromkeys(("DINOV2Backbone", "DINOV3Backbone"), _ONE_LAYER),
    "MiTBackbone": "its layers do not load again once they were saved",
    "SwinTransformerBackbone": "it gives a sequence of tokens, not a feature map",
}

# Folders in sft_keras/bundled -> (scale, offset) of their input. EfficientNet-Lite was trained on
# (image - 127) / 128.
BUNDLED: dict[str, tuple[float, float]] = {"efficientnet_lite0": (1 / 128, -127 / 128)}

_BUNDLED_FOLDER = Path(__file__).parent.parent / "bundled"
_CONVERTER_FILE = "image_converter.json"
_SCALING = ("scale", "offset")
# Arguments of the constructors that the recipe or this package already decides.
_DECIDED = ("self", "kwargs", "image_shape", "input_shape", "data_format", "dtype", "name")


def build_bundled(name: str, backbone: Backbone) -> BuiltBackbone:
    """Builds the backbone "bundled:`name`", whose weights come with the package.

    Raises:
      BackboneError: As `build_hub_preset`.
    """
    if name not in BUNDLED:
        raise BackboneError(
            f"`backbone.preset` names nothing that is bundled. Received: 'bundled:{name}'."
            f"{did_you_mean(name, BUNDLED)} Known: {', '.join(BUNDLED)}."
        )
    scale, offset = BUNDLED[name]
    model = _load(str(_BUNDLED_FOLDER / name), backbone, backbone.arguments)
    return _built(model, (affine(scale, offset),))


def build_hub_preset(name: str, backbone: Backbone) -> BuiltBackbone:
    """Builds the backbone "hub:`name`".

    Args:
      name: A preset of KerasHub, an address such as "hf://USER/MODEL", or a preset folder's path.
      backbone: Its `arguments` may hold those of the KerasHub class, and `scale` and `offset` of
        the input (numbers, or one for each channel) for a preset that does not say them.

    Raises:
      BackboneError: If the preset is unknown, is not there and cannot be downloaded, cannot be
        cut into blocks or does not say how its input is scaled.
    """
    preset = name if "://" in name else _known_preset(name)
    own = {key: value for key, value in backbone.arguments.items() if key not in _SCALING}
    given = {key: value for key, value in backbone.arguments.items() if key in _SCALING}
    model = _load(preset, backbone, own)
    preprocess = _given_scaling(backbone, given) if given else _preset_scaling(preset, backbone)
    return _built(model, preprocess)


def _known_preset(name: str) -> str:
    """Returns a preset's name or a preset folder's path; refuses what is neither."""
    import keras_hub

    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BackboneError(
                f"`backbone.preset` names a folder that is no KerasHub preset: {folder} holds no "
                "config.json. Expected: a folder that `save_to_preset` of a backbone made."
            )
        return str(folder)
    models = keras_hub.models
    known = [preset for family in HUB_FAMILIES for preset in getattr(models, family).presets]
    if name in known:
        return name
    for refused in _REFUSED:
        if name in getattr(models, refused).presets:
            raise _refusal(f"hub:{name}", refused)
    raise BackboneError(
        "`backbone.preset` names neither a folder nor a KerasHub preset of an image network. "
        f"Received: 'hub:{name}'.{did_you_mean(name, known)}\n"
        f"See the `presets` of keras_hub.models: {', '.join(HUB_FAMILIES)}."
    )


def _refusal(preset: str, class_name: str) -> BackboneError:
    reason = _REFUSED.get(class_name, "the layers of its blocks are not known here")
    return BackboneError(
        f"{preset} is a {class_name}, which cannot be frozen block by block: {reason}. "
        f"Expected one of: {', '.join(HUB_FAMILIES)}."
    )


def _load(preset: str, backbone: Backbone, arguments: Mapping[str, Any]) -> keras.Model:
    """Loads a preset at the recipe's image size, with the weights the recipe asks for."""
    import keras_hub

    hub_class = getattr(keras_hub.models, _class_name(preset, backbone))
    known = [key for key in inspect.signature(hub_class).parameters if key not in _DECIDED]
    for key in arguments:
        if key not in known:
            raise BackboneError(
                f"{backbone.preset} takes no argument {key!r}.{did_you_mean(key, known)} "
                f"`backbone.arguments` may hold: {', '.join((*known, *_SCALING))}."
            )
    size = (
        "image_shape" if "image_shape" in inspect.signature(hub_class).parameters else "input_shape"
    )
    size_given = {size: (*backbone.image_size, 3)}
    return load_preset(hub_class, preset, backbone, **size_given, **arguments)


def _class_name(preset: str, backbone: Backbone) -> str:
    """Returns the name of a preset's class; refuses a class that has no row in the table."""
    import keras_hub

    config = Path(preset, "config.json")
    if config.is_file():
        name = str(read_config(config, backbone).get("class_name", "unknown"))
    else:
        base = keras_hub.models.Backbone
        name = type(from_hub(base, preset, backbone, load_weights=False)).__name__
    if name not in HUB_FAMILIES:
        raise _refusal(backbone.preset, name)
    return name


def _preset_scaling(preset: str, backbone: Backbone) -> tuple[keras.Layer, ...]:
    """Returns the scaling the preset's own image converter does."""
    import keras_hub

    if Path(preset).is_dir() and not Path(preset, _CONVERTER_FILE).is_file():
        raise BackboneError(
            f"{backbone.preset} does not say how its input is scaled: the folder has no "
            f"{_CONVERTER_FILE}. Expected: `backbone.arguments` with scale and offset, such that "
            "image * scale + offset, with image from 0 to 255, is what it was trained on. "
            f"Received: {dict(backbone.arguments)}."
        )
    converter = from_hub(keras_hub.layers.ImageConverter, preset, backbone)
    if converter.scale is None and converter.offset is None:
        return ()
    scale = 1.0 if converter.scale is None else converter.scale
    return (affine(scale, 0.0 if converter.offset is None else converter.offset),)


def _given_scaling(backbone: Backbone, given: Mapping[str, Any]) -> tuple[keras.Layer, ...]:
    for key in _SCALING:
        value = given.get(key)
        each = value if isinstance(value, (list, tuple)) else (value,)
        if len(each) not in (1, 3) or not all(isinstance(one, (int, float)) for one in each):
            raise BackboneError(
                f"`backbone.arguments` must hold both scale and offset, numbers or three for the "
                f"channels red, green and blue. Received: {key}={value!r} for {backbone.preset}."
            )
    return (affine(given["scale"], given["offset"]),)


def _built(hub_model: Any, preprocess: tuple[keras.Layer, ...]) -> BuiltBackbone:
    # A plain Functional model of the same graph: saved, it needs no class of KerasHub to load
    # unless its layers are KerasHub's own.
    model = keras.Model(hub_model.input, hub_model.output, name=hub_model.name)
    blocks = find_blocks(model, re.compile(HUB_FAMILIES[type(hub_model).__name__]))
    return BuiltBackbone(model, blocks, preprocess)
