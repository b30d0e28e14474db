"""What the tests of backbones share: small builds and what must hold of each."""

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
    """Builds a backbone for small images with random weights."""
    return build_backbone(Backbone(preset=preset, weights=None, image_size=SIZE, **fields))


def error_of(**fields) -> str:
    """Returns what a `Backbone` of these fields is refused with."""
    with pytest.raises(BackboneError) as caught:
        build_backbone(Backbone(**{"weights": None, "image_size": SIZE, **fields}))
    return str(caught.value)


def images(count: int = 2) -> np.ndarray:
    """Returns noise, RGB from 0 to 255."""
    return np.random.default_rng(0).uniform(0, 255, (count, *SIZE, 3)).astype("float32")


def assert_covers(built: BuiltBackbone) -> None:
    """The blocks hold every layer once, in the order of the model."""
    in_blocks = [layer for block in built.blocks for layer in block.layers]
    in_model = [x for x in built.model.layers if not isinstance(x, keras.layers.InputLayer)]
    assert list(map(id, in_blocks)) == list(map(id, in_model))


def assert_parts_make_the_whole(built: BuiltBackbone, unfreeze: int) -> None:
    """Below and above the cut compute what the whole does; above are the top blocks' layers."""
    shape = (2, *built.model.input_shape[1:])
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    prefix, suffix = built.split(unfreeze)
    top = [id(layer) for block in built.blocks[-unfreeze:] for layer in block.layers]
    above = [x for x in suffix.layers if not isinstance(x, keras.layers.InputLayer)]
    assert list(map(id, above)) == top
    np.testing.assert_array_equal(
        suffix(prefix(x, training=False), training=False), built.model(x, training=False)
    )
