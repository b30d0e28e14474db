"""Small backbones, and assertions that hold for every backbone."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.build import build_backbone
from sft_keras.core.errors import BackboneError
from sft_keras.recipe.backbone import Backbone

SIZE = (32, 32)


def random_backbone(preset: str, **fields) -> BuiltBackbone:
    """Build a backbone for small images with random weights."""
    return build_backbone(Backbone(preset=preset, weights=None, image_size=SIZE, **fields))


def error_of(**fields) -> str:
    """Return the message of the error that a `Backbone` with these fields raises."""
    with pytest.raises(BackboneError) as caught:
        build_backbone(Backbone(**{"weights": None, "image_size": SIZE, **fields}))
    return str(caught.value)


def images(count: int = 2) -> np.ndarray:
    """Return random RGB images, float32 [count, 32, 32, 3], 0 to 255."""
    return np.random.default_rng(0).uniform(0, 255, (count, *SIZE, 3)).astype("float32")


def assert_covers(built: BuiltBackbone) -> None:
    """Assert that the blocks contain every layer exactly once, in model order."""
    in_blocks = [layer for block in built.blocks for layer in block.layers]
    in_model = [
        layer for layer in built.model.layers if not isinstance(layer, keras.layers.InputLayer)
    ]
    assert list(map(id, in_blocks)) == list(map(id, in_model))


def assert_parts_make_the_whole(built: BuiltBackbone, unfreeze: int) -> None:
    """Assert that prefix and suffix compose to the model, and the suffix is the top blocks."""
    shape = (2, *built.model.input_shape[1:])
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    prefix, suffix = built.split(unfreeze)
    top = [id(layer) for block in built.blocks[-unfreeze:] for layer in block.layers]
    above = [layer for layer in suffix.layers if not isinstance(layer, keras.layers.InputLayer)]
    assert list(map(id, above)) == top
    np.testing.assert_array_equal(
        suffix(prefix(x, training=False), training=False), built.model(x, training=False)
    )
