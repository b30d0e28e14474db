"""Backbones of KerasHub: preset folders, their scaling, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from backbone_checks import (
    SIZE,
    assert_covers,
    assert_parts_make_the_whole,
    error_of,
    images,
    random_backbone,
)

from sft_keras.backbones.build import build_backbone
from sft_keras.recipe.backbone import Backbone


@pytest.fixture(scope="module")
def resnet_folder(tmp_path_factory) -> Path:
    """A tiny ResNet saved as a preset for images of any size, without an image converter."""
    import keras_hub

    folder = tmp_path_factory.mktemp("presets") / "resnet"
    blocks = ([64, 8], [2, 1], [1, 2], "basic_block")
    keras_hub.models.ResNetBackbone([64], [3], *blocks).save_to_preset(str(folder))
    return folder


def test_a_preset_folder_is_built_at_the_recipes_size_with_its_weights(resnet_folder):
    import keras_hub

    arguments = {"scale": 1 / 255, "offset": 0}
    backbone = Backbone(preset=f"hub:{resnet_folder}", image_size=SIZE, arguments=arguments)
    built = build_backbone(backbone)
    assert built.model.input_shape == (None, *SIZE, 3)
    names = ["stem", "stack0_block0", "stack0_block1", "stack1_block0"]
    assert [block.name for block in built.blocks] == names
    assert_covers(built)
    assert_parts_make_the_whole(built, 2)
    (scale,) = built.preprocess
    np.testing.assert_allclose(scale(images()), images() / 255, rtol=1e-6)
    original = keras_hub.models.Backbone.from_preset(str(resnet_folder))
    np.testing.assert_allclose(built.model(images()), original(images()), rtol=1e-6)


def test_the_presets_own_image_converter_gives_the_scaling(resnet_folder, tmp_path):
    import keras_hub

    for file in resnet_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(8, 8), scale=[0.1, 0.2, 0.3], offset=[1.0, 2.0, 3.0]
    )
    converter.save_to_preset(str(tmp_path))
    (scale,) = random_backbone(f"hub:{tmp_path}").preprocess
    expected = images() * np.float32([0.1, 0.2, 0.3]) + np.float32([1, 2, 3])
    np.testing.assert_allclose(scale(images()), expected, rtol=1e-5)


def test_a_preset_folder_that_does_not_say_its_scaling_is_refused(resnet_folder):
    message = error_of(preset=f"hub:{resnet_folder}")
    assert "image_converter.json" in message and "scale and offset" in message


@pytest.mark.parametrize("arguments", [{"scale": 1.0}, {"scale": [1, 2], "offset": 0}])
def test_half_a_scaling_is_refused(resnet_folder, arguments):
    message = error_of(preset=f"hub:{resnet_folder}", arguments=arguments)
    assert "both scale and offset" in message


def test_a_network_whose_blocks_lie_inside_one_layer_is_refused(tmp_path):
    import keras_hub

    vit = keras_hub.models.ViTBackbone((*SIZE, 3), (16, 16), 2, 2, 8, 16)
    vit.save_to_preset(str(tmp_path))
    message = error_of(preset=f"hub:{tmp_path}")
    assert "ViTBackbone" in message and "inside one layer" in message
    assert "inside one layer" in error_of(preset="hub:vit_base_patch16_224_imagenet")


def test_a_folder_that_is_no_preset_is_refused(tmp_path):
    assert "no config.json" in error_of(preset=f"hub:{tmp_path}")
