"""A KerasHub preset small enough for tests."""

from __future__ import annotations

from pathlib import Path


def save_tiny_preset(folder: Path) -> str:
    """Save a residual network of two small blocks with random weights; return its path."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    backbone.save_to_preset(str(folder))
    return str(folder)
