"""Scale RGB images in 0..255 to the range a backbone was trained on, with built-in Keras layers.

As built-in layers they are saved with the model and load with `safe_mode` on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import keras

Scaling = Literal["tf", "torch", "caffe", "none"]

# ImageNet statistics of red, green and blue in 0..1; and of blue, green and red in 0..255. The
# values are those of keras.applications.imagenet_utils.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
_CAFFE_BGR_MEAN = (103.939, 116.779, 123.68)


def scaling_layers(scaling: Scaling) -> tuple[keras.Layer, ...]:
    """Return layers equivalent to `keras.applications.*.preprocess_input`.

    Args:
      scaling: "tf": to [-1, 1]. "torch": to [0, 1], then normalized by ImageNet's channel
        statistics. "caffe": to BGR, minus ImageNet's channel means. "none": no layers, because the
        model scales its input itself.
    """
    if scaling == "tf":
        return (affine(1 / 127.5, -1.0),)
    if scaling == "torch":
        scale = [1 / (255 * deviation) for deviation in IMAGENET_DEVIATION]
        pairs = zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)
        return (affine(scale, [-mean / deviation for mean, deviation in pairs]),)
    if scaling == "caffe":
        return (_rgb_to_bgr(), affine(1.0, [-mean for mean in _CAFFE_BGR_MEAN]))
    return ()


def affine(
    scale: float | Sequence[float], offset: float | Sequence[float]
) -> keras.layers.Rescaling:
    """Return a layer that computes `image * scale + offset`.

    It computes in float32 under mixed precision too: 255 times a rounding error of bfloat16 is
    more than one grey level.

    Args:
      scale: One number, or one per channel.
      offset: One number, or one per channel.
    """
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="scale_input")


def _rgb_to_bgr() -> keras.Model:
    # No built-in layer flips an axis; a Functional model around the operation is a layer and
    # needs no custom object to load.
    image = keras.Input((None, None, 3), dtype="float32")
    return keras.Model(image, keras.ops.flip(image, axis=-1), name="rgb_to_bgr")
