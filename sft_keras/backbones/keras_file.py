"""Backbones from a `.keras` file: any Functional or Sequential Keras model of images."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import keras

from sft_keras.backbones.blocks import (
    Block,
    BuiltBackbone,
    blocks_between,
    find_blocks,
    find_boundaries,
)
from sft_keras.backbones.scaling import affine, scaling_layers
from sft_keras.backbones.weights_file import check_weights_file, load_weights_file
from sft_keras.core.errors import BackboneError
from sft_keras.recipe.backbone import Backbone
from sft_keras.recipe.section import did_you_mean

_ARGUMENTS = ("output", "blocks", "scaling", "scale", "offset")
_SCALINGS = ("tf", "torch", "caffe", "none")
_FEATURE_MAP_RANK = 4


def build_keras_file(name: str, backbone: Backbone) -> BuiltBackbone:
    """Build the backbone "file:`name`" from a model saved with `model.save("....keras")`.

    `Backbone.arguments` may contain
      output: The name of the layer whose output is the feature map; by default the last one with
        an output [batch, height, width, channels], so that a classifier loses its head.
      blocks: A pattern of layer names with a group per block, e.g. r"(block\\d)_", see
        `find_blocks`. By default see `automatic_blocks`.
      scaling: How images in 0..255 are scaled for the model: "tf", "torch" or "caffe", as in
        keras.applications, or "none", the default, where the model scales its input itself.
      scale, offset: The same as `image * scale + offset`, instead of `scaling`.

    Args:
      name: The path of the file.
      backbone: The section of the recipe.

    Raises:
      BackboneError: If the file cannot be loaded, has no feature map, takes images of another size,
        or cannot be divided into blocks.
    """
    path = Path(name).expanduser()
    _check_arguments(backbone)
    loaded = _cut(_load(path), path, backbone.arguments.get("output"))
    _check_image_size(loaded, backbone)
    # New layers, which have no trace of the head or of an earlier use.
    model = keras.models.clone_model(loaded)
    if backbone.is_pretrained:
        model.set_weights(loaded.get_weights())
    if backbone.weights is not None and not backbone.is_pretrained:
        load_weights_file(model, check_weights_file(backbone), backbone)
    pattern = backbone.arguments.get("blocks")
    blocks = find_blocks(model, re.compile(pattern)) if pattern else automatic_blocks(model)
    return BuiltBackbone(model, blocks, _scaling(backbone))


def automatic_blocks(model: keras.Model) -> tuple[Block, ...]:
    """Divide a Functional model at every boundary between layers with kernels.

    A block has at least one layer with weights other than a normalization, and everything up to
    the next such layer: activations, normalizations and poolings. It is named after its first
    layer with weights.

    Raises:
      BackboneError: If the model has no layer with weights, or uses a layer more than once.
    """
    operations, boundaries = find_boundaries(model)
    ends: dict[int, str] = {}
    start = 0
    for end, following in itertools.pairwise([*sorted(boundaries), len(operations) - 1]):
        kernels = [op.name for op in operations[start : end + 1] if _has_kernel(op)]
        is_last = following == len(operations) - 1
        # What has no kernel joins the block below: an activation, a normalization, a pooling.
        if kernels and (is_last or any(map(_has_kernel, operations[end + 1 : following + 1]))):
            ends[end] = kernels[0]
            start = end + 1
    if not ends:
        raise BackboneError(f"{model.name} has no layer with weights, so nothing of it can train.")
    ends[len(operations) - 1] = ends.pop(max(ends))
    return blocks_between(model, operations, ends, boundaries)


def _has_kernel(operation: keras.Operation) -> bool:
    normalizations = (
        keras.layers.BatchNormalization,
        keras.layers.GroupNormalization,
        keras.layers.LayerNormalization,
        keras.layers.Normalization,
        keras.layers.UnitNormalization,
    )
    is_layer = isinstance(operation, keras.Layer) and not isinstance(operation, normalizations)
    return is_layer and bool(operation.weights)


def _check_arguments(backbone: Backbone) -> None:
    arguments = backbone.arguments
    for name in arguments:
        if name not in _ARGUMENTS:
            raise BackboneError(
                f"`backbone.arguments` of a .keras file may contain {', '.join(_ARGUMENTS)}. "
                f"Received: {name!r}.{did_you_mean(name, _ARGUMENTS)}"
            )
    if arguments.get("scaling", "none") not in _SCALINGS:
        raise BackboneError(
            f"`backbone.arguments.scaling` must be one of {', '.join(_SCALINGS)}. "
            f"Received: {arguments['scaling']!r}."
        )
    if "scaling" in arguments and ("scale" in arguments or "offset" in arguments):
        raise BackboneError(
            "`backbone.arguments` must set either scaling or scale and offset. "
            f"Received: {dict(arguments)}."
        )


def _load(path: Path) -> keras.Model:
    if not path.is_file():
        raise BackboneError(
            f"`backbone.preset` must name a model saved as a .keras file. Received: 'file:{path}', "
            "which does not exist."
        )
    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError) as error:
        raise BackboneError(
            f"{path} cannot be loaded as a Keras model: {error}\nSave it with "
            "model.save('NAME.keras'), and register its custom layers with "
            "keras.saving.register_keras_serializable in a module that your recipe file imports."
        ) from error
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not getattr(model, "operations", None):
        raise BackboneError(
            f"{path} must be a Functional or Sequential model: a subclassed one cannot be divided "
            f"into blocks. Received: {type(model).__name__}."
        )
    return model


def _cut(model: keras.Model, path: Path, output: str | None) -> keras.Model:
    """Return the part of the model up to its feature map."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    maps = [layer for layer in layers if _rank(layer) == _FEATURE_MAP_RANK]
    if output is None:
        if not maps:
            raise BackboneError(
                f"{path} has no layer with a feature map, [batch, height, width, channels]. "
                f"Received: {', '.join(layer.name for layer in layers[:8])}."
            )
        top = maps[-1]
    else:
        names = [layer.name for layer in maps]
        if output not in names:
            raise BackboneError(
                "`backbone.arguments.output` must be a layer of the model whose output is "
                f"[batch, height, width, channels]. Received: {output!r}."
                f"{did_you_mean(output, names)} The last ones: {', '.join(names[-8:])}."
            )
        top = maps[names.index(output)]
    if len(model.inputs) != 1:
        raise BackboneError(f"{path} must have one input, images. Received: {len(model.inputs)}.")
    if isinstance(top, keras.Model) and model.layers.index(top) == 1:
        # A backbone used as a layer.
        return keras.Model(top.inputs[0], top.outputs[0], name=top.name)
    return keras.Model(model.inputs[0], keras.tree.flatten(top.output)[0], name=model.name)


def _rank(layer: keras.Layer) -> int:
    outputs = keras.tree.flatten(layer.output)
    return len(outputs[0].shape) if len(outputs) == 1 else 0


def _check_image_size(model: keras.Model, backbone: Backbone) -> None:
    expected, received = model.inputs[0].shape[1:], (*backbone.image_size, 3)
    fits = len(expected) == len(received) and all(
        side in (None, size) for side, size in zip(expected, received)
    )
    if not fits:
        height, width = (expected[0], expected[1]) if len(expected) > 1 else (None, None)
        advice = ""
        if len(expected) == len(received) and expected[2] in (None, 3):
            advice = f" Set --set=backbone.image_size={height or 'H'}x{width or 'W'}."
        raise BackboneError(
            f"{backbone.preset} takes inputs of shape {expected}, without the batch. Received: "
            f"images of {received}.{advice}"
        )


def _scaling(backbone: Backbone) -> tuple[keras.Layer, ...]:
    arguments: dict[str, Any] = dict(backbone.arguments)
    if "scale" in arguments or "offset" in arguments:
        return (affine(arguments.get("scale", 1.0), arguments.get("offset", 0.0)),)
    return scaling_layers(arguments.get("scaling", "none"))
