"""Backbones of `keras.applications`: a table with the scaling and the blocks of each.

To add an architecture, add a `Family` and a row to `APPLICATIONS`.
"""

from __future__ import annotations

import inspect
import os
import re
import urllib.parse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sft_keras.backbones.blocks import BuiltBackbone, find_blocks
from sft_keras.backbones.downloads import watched_downloads
from sft_keras.backbones.scaling import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    Scaling,
    affine,
    scaling_layers,
)
from sft_keras.backbones.weights_file import check_weights_file, load_weights_file
from sft_keras.core.errors import BackboneError
from sft_keras.recipe.backbone import Backbone
from sft_keras.recipe.section import did_you_mean


@dataclass(frozen=True)
class Family:
    """What the backbones of one architecture have in common.

    Attributes:
      scaling: The scaling of its `preprocess_input`, see `scaling_layers`.
      blocks: The pattern of the layer names of a block, see `find_blocks`.
    """

    scaling: Scaling
    blocks: str


_VGG = Family("caffe", r"(block\d)_")
_RESNET = Family("caffe", r"(conv\d_block\d+)_")
_RESNET_V2 = Family("tf", r"(conv\d_block\d+)_")
_MOBILENET = Family("tf", r"conv_(?:dw|pw|pad)_(?P<conv>\d+)")
_MOBILENET_V2 = Family("tf", r"(expanded_conv|block_\d+)_")
_MOBILENET_V3 = Family("none", r"(expanded_conv(?:_\d+)?)_[a-z]")
_EFFICIENTNET = Family("none", r"(block\d[a-z]+)_")
_EFFICIENTNET_V2 = Family("none", r"(block\d[a-z]+)_")
# A stage with the transition that halves its resolution: cached features are four times smaller.
_DENSENET = Family("torch", r"(?:conv|pool)(?P<stage>[2-5])_")
# Only the concatenation at the end of an Inception block is named; its branches are numbered.
_INCEPTION = Family("tf", r"(mixed\d+)$")
_XCEPTION = Family("tf", r"(block\d+)_")
_CONVNEXT = Family("none", r".*(stage_\d)_(block_\d+)_")

# Preset -> (constructor in keras.applications, family).
APPLICATIONS: dict[str, tuple[str, Family]] = {
    "vgg16": ("VGG16", _VGG),
    "vgg19": ("VGG19", _VGG),
    "resnet50": ("ResNet50", _RESNET),
    "resnet101": ("ResNet101", _RESNET),
    "resnet152": ("ResNet152", _RESNET),
    "resnet50v2": ("ResNet50V2", _RESNET_V2),
    "resnet101v2": ("ResNet101V2", _RESNET_V2),
    "resnet152v2": ("ResNet152V2", _RESNET_V2),
    "mobilenet": ("MobileNet", _MOBILENET),
    "mobilenet_v2": ("MobileNetV2", _MOBILENET_V2),
    "mobilenet_v3_small": ("MobileNetV3Small", _MOBILENET_V3),
    "mobilenet_v3_large": ("MobileNetV3Large", _MOBILENET_V3),
    **{f"efficientnet_b{size}": (f"EfficientNetB{size}", _EFFICIENTNET) for size in range(8)},
    **{
        f"efficientnet_v2_b{size}": (f"EfficientNetV2B{size}", _EFFICIENTNET_V2)
        for size in range(4)
    },
    **{
        f"efficientnet_v2_{size.lower()}": (f"EfficientNetV2{size}", _EFFICIENTNET_V2)
        for size in "SML"
    },
    "densenet121": ("DenseNet121", _DENSENET),
    "densenet169": ("DenseNet169", _DENSENET),
    "densenet201": ("DenseNet201", _DENSENET),
    "inception_v3": ("InceptionV3", _INCEPTION),
    "xception": ("Xception", _XCEPTION),
    **{
        f"convnext_{size.lower()}": (f"ConvNeXt{size}", _CONVNEXT)
        for size in ("Tiny", "Small", "Base", "Large", "XLarge")
    },
}

# Constructor arguments that are set by the recipe or this package -> what to do instead.
_DECIDED = {
    "include_top": "the task adds its own head",
    "weights": "set `backbone.weights`",
    "input_shape": "set `backbone.image_size`",
    "input_tensor": "the package creates the input",
    "pooling": "the head pools the feature map",
    "classes": "the task adds its own head",
    "classifier_activation": "the task adds its own head",
    "include_preprocessing": "the scaling is part of the backbone",
    "name": "blocks are identified by layer names",
}


def build_application(name: str, backbone: Backbone) -> BuiltBackbone:
    """Build the backbone "keras:`name`".

    Args:
      name: A key of `APPLICATIONS`.
      backbone: The section of the recipe; its `arguments` are passed on to the constructor.

    Raises:
      BackboneError: If the name or an argument is unknown, the image size is too small, or the
        weights are missing or do not fit.
    """
    if name not in APPLICATIONS:
        hint = did_you_mean(name.lower(), APPLICATIONS)
        raise BackboneError(
            "`backbone.preset` must name a backbone of keras.applications that can be divided into "
            f"blocks. Received: 'keras:{name}'.{hint}\nAvailable: {', '.join(APPLICATIONS)}."
        )
    constructor_name, family = APPLICATIONS[name]
    constructor = getattr(keras.applications, constructor_name)
    _check_arguments(constructor, backbone)
    model, from_file = _with_weights(constructor, backbone)
    preprocess = scaling_layers(family.scaling)
    if from_file and family is _EFFICIENTNET:
        preprocess = _efficientnet_file_scaling(model)
    return BuiltBackbone(model, find_blocks(model, re.compile(family.blocks)), preprocess)


def _check_arguments(constructor: Any, backbone: Backbone) -> None:
    allowed = [name for name in inspect.signature(constructor).parameters if name not in _DECIDED]
    for name in backbone.arguments:
        if name in _DECIDED:
            raise BackboneError(
                f"`backbone.arguments` must not contain {name!r}: {_DECIDED[name]}. "
                f"Received: {dict(backbone.arguments)}."
            )
        if name not in allowed:
            raise BackboneError(
                f"{backbone.preset} has no argument {name!r}.{did_you_mean(name, allowed)} "
                f"`backbone.arguments` may contain: {', '.join(allowed) or 'nothing'}."
            )


def _with_weights(constructor: Any, backbone: Backbone) -> tuple[keras.Model, bool]:
    """Return the model, and whether its weights were loaded from a file after construction."""
    if backbone.is_pretrained or backbone.weights is None:
        weights = "imagenet" if backbone.is_pretrained else None
        try:
            with watched_downloads() as addresses:
                return _construct(constructor, backbone, weights), False
        except Exception as error:  # Keras raises a bare Exception for a failed download.
            if not addresses:
                raise
            file = _cached_file(backbone, addresses[0], error)
    else:
        file = check_weights_file(backbone)
    model = _construct(constructor, backbone, None)
    load_weights_file(model, file, backbone)
    return model, True


def _construct(constructor: Any, backbone: Backbone, weights: str | None) -> keras.Model:
    """Call the constructor, and turn Keras' errors into ones that show the recipe's settings."""
    height, width = backbone.image_size
    try:
        with warnings.catch_warnings():
            # MobileNets have weights for some image sizes only. For others Keras uses those of
            # 224 x 224, which is what the user wants.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
            return constructor(
                include_top=False,
                weights=weights,
                input_shape=(height, width, 3),
                **backbone.arguments,
            )
    except (ValueError, TypeError) as error:
        raise BackboneError(
            f"{backbone.preset} cannot be built with image_size={backbone.image_size}, "
            f"weights={backbone.weights!r} and arguments={dict(backbone.arguments)}. "
            f"Keras reports: {error}"
        ) from error
    except OSError as error:
        raise BackboneError(
            f"The downloaded weights of {backbone.preset} are damaged: {error}\n"
            f"Delete the file in {_weights_folder()}, and Keras will download it again."
        ) from error


def _cached_file(backbone: Backbone, address: str, error: Exception) -> Path:
    """Return the file that Keras tried to download, if it exists in the cache nevertheless.

    Keras ignores its own folder if it is not writable.

    Raises:
      BackboneError: If the file does not exist.
    """
    file = _weights_folder() / Path(urllib.parse.urlsplit(address).path).name
    if file.is_file():
        return file
    raise BackboneError(
        f"The weights of {backbone.preset} are missing and could not be downloaded: {error}\n"
        f"Expected: {file}\n"
        f"Copy the file there (from {address}), pass --set=backbone.weights=FILE if it is "
        "elsewhere, pass --set=backbone.weights=none for random weights, or try "
        "--recipe=quickstart, which needs no network."
    ) from error


def _weights_folder() -> Path:
    return Path(os.environ.get("KERAS_HOME", Path("~", ".keras"))).expanduser() / "models"


def _efficientnet_file_scaling(model: keras.Model) -> tuple[keras.Layer, ...]:
    """Return the scaling that EfficientNet (not V2) lacks if its weights come from a file.

    The ImageNet weights were trained on (image - mean) / deviation, but Keras' normalization layer
    computes (image - mean) / sqrt(deviation). With weights="imagenet" Keras compensates with one
    more layer. If the same weights are loaded from a file it does not, and the network sees images
    of half the contrast. Scaling around the mean beforehand has the same effect.
    """
    normalization = next(x for x in model.layers if isinstance(x, keras.layers.Normalization))
    mean = keras.ops.convert_to_numpy(normalization.mean).reshape(-1)
    if not np.allclose(mean, IMAGENET_MEAN, atol=1e-3):
        return ()  # Trained from random weights, without Keras' additional layer.
    factors = [deviation**-0.5 for deviation in IMAGENET_DEVIATION]
    offsets = [255 * m * (1 - f) for m, f in zip(IMAGENET_MEAN, factors, strict=True)]
    return (affine(factors, offsets),)
