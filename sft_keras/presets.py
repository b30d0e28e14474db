"""The networks of keras.applications that `backbone.preset` may name. Standard library only.

A copy of the table in `sft_keras.backbones`, so that a misspelt name is answered without importing
Keras; a test compares the two.
"""

from __future__ import annotations

KERAS_PRESETS: tuple[str, ...] = (
    *("vgg16", "vgg19"),
    *("resnet50", "resnet101", "resnet152", "resnet50v2", "resnet101v2", "resnet152v2"),
    *("mobilenet", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *(f"efficientnet_b{size}" for size in range(8)),
    *(f"efficientnet_v2_{size}" for size in ("b0", "b1", "b2", "b3", "s", "m", "l")),
    *("densenet121", "densenet169", "densenet201", "inception_v3", "xception"),
    *(f"convnext_{size}" for size in ("tiny", "small", "base", "large", "xlarge")),
)
