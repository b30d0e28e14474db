"""Put transparent images on a background, as every viewer does, in TensorFlow's graph.

What lies under transparent pixels is arbitrary, and often black: an icon of black shapes on a
transparent background would be a black square.
"""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

Background = Literal["white", "grey", "black", "none"]

LEVELS = {"white": 255, "grey": 128, "black": 0}


def composite(image: tf.Tensor, background: Background) -> tf.Tensor:
    """Return colours on a background.

    Args:
      image: uint8 [height, width, 4], the fourth channel being the opacity, 0..255.
      background: A colour; "none" to drop the opacity and to take the colours as they are stored.

    Returns:
      uint8 [height, width, 3]; where the image is opaque, exactly its colours.
    """
    colours = image[..., :3]
    if background == "none":
        return colours
    level = LEVELS[background]

    # Integers, so that training and every server compute the same.
    opacity = tf.cast(image[..., 3:], tf.int32)
    weighted = tf.cast(colours, tf.int32) * opacity + level * (255 - opacity)
    return tf.cast((weighted + 127) // 255, tf.uint8)
