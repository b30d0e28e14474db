"""Image backbones of KerasHub: its presets, preset folders, and the bundled preset."""

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

# Class in keras_hub.models -> pattern of the layer names of a block, see `find_blocks`.
HUB_FAMILIES: dict[str, str] = {
    # In a cross-stage network, paths bypass the blocks: only its stages have boundaries.
    "CSPNetBackbone": r"(stage_\d+)_",
    "DenseNetBackbone": r"(?:stack|transition)(?P<stack>\d)_",
    "EfficientNetBackbone": r"(block\d[a-z]+)_",
    "MobileNetBackbone": r"(block_\d+_\d+)$",
    "ResNetBackbone": r"(stack\d+_block\d+)_",
    "VGGBackbone": r"(block\d)_",
    "XceptionBackbone": r"(block\d+)_",
}
_ONE_LAYER = "it runs all its blocks inside one layer"
# Class -> why it is not supported.
_UNSUPPORTED: dict[str, str] = {
    **dict.fromkeys(("ViTBackbone", "DeiTBackbone", "HGNetV2Backbone"), _ONE_LAYER),
    **dict.fromkeys(("DINOV2Backbone", "DINOV3Backbone"), _ONE_LAYER),
    "MiTBackbone": "its layers cannot be loaded again after saving",
    "SwinTransformerBackbone": "its output is a sequence of tokens, not a feature map",
}

# Folder in sft_keras/bundled -> (scale, offset) of its input. EfficientNet-Lite was trained on
# (image - 127) / 128.
BUNDLED: dict[str, tuple[float, float]] = {"efficientnet_lite0": (1 / 128, -127 / 128)}

_BUNDLED_FOLDER = Path(__file__).parent.parent / "bundled"
_CONVERTER_FILE = "image_converter.json"
_SCALING = ("scale", "offset")
# Constructor arguments that are set by the recipe or this package.
_DECIDED = ("self", "kwargs", "image_shape", "input_shape", "data_format", "dtype", "name")


def build_bundled(name: str, backbone: Backbone) -> BuiltBackbone:
    """Build the backbone "bundled:`name`", whose weights are part of the package.

    Args:
      name: A key of `BUNDLED`.
      backbone: The section of the recipe.

    Raises:
      BackboneError: As `build_hub_preset`.
    """
    if name not in BUNDLED:
        raise BackboneError(
            f"`backbone.preset` must name a bundled backbone. Received: 'bundled:{name}'."
            f"{did_you_mean(name, BUNDLED)} Available: {', '.join(BUNDLED)}."
        )
    scale, offset = BUNDLED[name]
    model = _load(str(_BUNDLED_FOLDER / name), backbone, backbone.arguments)
    return _to_built_backbone(model, (affine(scale, offset),))


def build_hub_preset(name: str, backbone: Backbone) -> BuiltBackbone:
    """Build the backbone "hub:`name`".

    Args:
      name: A preset of KerasHub, an address such as "hf://USER/MODEL", or the path of a preset
        folder.
      backbone: The section of the recipe. Its `arguments` may contain those of the KerasHub class,
        and `scale` and `offset` of the input (one number, or one per channel) if the preset does
        not define them.

    Raises:
      BackboneError: If the preset is unknown or cannot be downloaded, cannot be divided into
        blocks, or does not define the scaling of its input.
    """
    preset = name if "://" in name else _resolve_preset(name)
    arguments = {key: value for key, value in backbone.arguments.items() if key not in _SCALING}
    scaling = {key: value for key, value in backbone.arguments.items() if key in _SCALING}
    model = _load(preset, backbone, arguments)
    if scaling:
        preprocess = _custom_scaling(backbone, scaling)
    else:
        preprocess = _preset_scaling(preset, backbone)
    return _to_built_backbone(model, preprocess)


def _resolve_preset(name: str) -> str:
    """Return the name of a KerasHub preset or the path of a preset folder.

    Raises:
      BackboneError: If it is neither, or its class is not supported.
    """
    import keras_hub

    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BackboneError(
                f"`backbone.preset` names a folder that is no KerasHub preset: {folder} has no "
                "config.json. Expected: a folder from `save_to_preset` of a backbone."
            )
        return str(folder)
    models = keras_hub.models
    known = [preset for family in HUB_FAMILIES for preset in getattr(models, family).presets]
    if name in known:
        return name
    for class_name in _UNSUPPORTED:
        if name in getattr(models, class_name).presets:
            raise _unsupported(f"hub:{name}", class_name)
    raise BackboneError(
        "`backbone.preset` must name a folder or a KerasHub preset of an image backbone. "
        f"Received: 'hub:{name}'.{did_you_mean(name, known)}\n"
        f"See the `presets` of keras_hub.models: {', '.join(HUB_FAMILIES)}."
    )


def _unsupported(preset: str, class_name: str) -> BackboneError:
    reason = _UNSUPPORTED.get(class_name, "the layer names of its blocks are not listed here")
    return BackboneError(
        f"{preset} is a {class_name}, which cannot be frozen block by block: {reason}. "
        f"Expected one of: {', '.join(HUB_FAMILIES)}."
    )


def _load(preset: str, backbone: Backbone, arguments: Mapping[str, Any]) -> keras.Model:
    """Load a preset with the image size and weights of the recipe."""
    import keras_hub

    hub_class = getattr(keras_hub.models, _class_name(preset, backbone))
    allowed = [key for key in inspect.signature(hub_class).parameters if key not in _DECIDED]
    for key in arguments:
        if key not in allowed:
            raise BackboneError(
                f"{backbone.preset} has no argument {key!r}.{did_you_mean(key, allowed)} "
                f"`backbone.arguments` may contain: {', '.join((*allowed, *_SCALING))}."
            )
    parameters = inspect.signature(hub_class).parameters
    name = "image_shape" if "image_shape" in parameters else "input_shape"
    shape = {name: (*backbone.image_size, 3)}
    return load_preset(hub_class, preset, backbone, **shape, **arguments)


def _class_name(preset: str, backbone: Backbone) -> str:
    """Return the class name of a preset.

    Raises:
      BackboneError: If the class is not in `HUB_FAMILIES`.
    """
    import keras_hub

    config = Path(preset, "config.json")
    if config.is_file():
        name = str(read_config(config, backbone).get("class_name", "unknown"))
    else:
        base = keras_hub.models.Backbone
        name = type(from_hub(base, preset, backbone, load_weights=False)).__name__
    if name not in HUB_FAMILIES:
        raise _unsupported(backbone.preset, name)
    return name


def _preset_scaling(preset: str, backbone: Backbone) -> tuple[keras.Layer, ...]:
    """Return the scaling of the preset's own image converter."""
    import keras_hub

    if Path(preset).is_dir() and not Path(preset, _CONVERTER_FILE).is_file():
        raise BackboneError(
            f"{backbone.preset} does not define the scaling of its input: the folder has no "
            f"{_CONVERTER_FILE}. Expected: scale and offset in `backbone.arguments`, such that "
            "image * scale + offset, for images in 0..255, is what it was trained on. "
            f"Received: {dict(backbone.arguments)}."
        )
    converter = from_hub(keras_hub.layers.ImageConverter, preset, backbone)
    if converter.scale is None and converter.offset is None:
        return ()
    scale = 1.0 if converter.scale is None else converter.scale
    return (affine(scale, 0.0 if converter.offset is None else converter.offset),)


def _custom_scaling(backbone: Backbone, scaling: Mapping[str, Any]) -> tuple[keras.Layer, ...]:
    """Return the scaling by the recipe's own `scale` and `offset`."""
    for key in _SCALING:
        value = scaling.get(key)
        numbers = value if isinstance(value, (list, tuple)) else (value,)
        if len(numbers) not in (1, 3) or not all(isinstance(n, (int, float)) for n in numbers):
            raise BackboneError(
                "`backbone.arguments` must contain both scale and offset: one number, or three for "
                "the channels red, green and blue. "
                f"Received: {key}={value!r} for {backbone.preset}."
            )
    return (affine(scaling["scale"], scaling["offset"]),)


def _to_built_backbone(hub_model: Any, preprocess: tuple[keras.Layer, ...]) -> BuiltBackbone:
    # A plain Functional model of the same graph: a saved one loads without KerasHub's model class,
    # and without KerasHub if no layer is its own.
    model = keras.Model(hub_model.input, hub_model.output, name=hub_model.name)
    blocks = find_blocks(model, re.compile(HUB_FAMILIES[type(hub_model).__name__]))
    return BuiltBackbone(model, blocks, preprocess)
