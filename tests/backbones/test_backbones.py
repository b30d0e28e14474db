"""Backbones: their blocks, their cuts, their input scaling and the table of presets."""

from __future__ import annotations

import contextlib
import importlib
import re

import keras
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

from sft_keras.backbones.applications import APPLICATIONS
from sft_keras.backbones.blocks import BuiltBackbone, find_blocks, find_boundaries
from sft_keras.backbones.build import KNOWN_PRESETS, build_backbone
from sft_keras.backbones.scaling import scaling_layers
from sft_keras.core.errors import BackboneError
from sft_keras.recipe.backbone import KERAS_PRESETS, Backbone


@pytest.fixture(
    scope="module", params=["keras:vgg16", "keras:mobilenet", "bundled:efficientnet_lite0"]
)
def built(request) -> BuiltBackbone:
    return random_backbone(request.param)


@pytest.fixture(scope="module")
def vgg16() -> BuiltBackbone:
    return random_backbone("keras:vgg16")


# --- blocks and cuts -------------------------------------------------------------------------


def test_blocks_hold_every_layer_once_and_in_order(built):
    assert_covers(built)
    assert len({block.name for block in built.blocks}) == len(built.blocks) > 3


def test_prefix_and_suffix_together_are_the_whole_bit_for_bit(built):
    for unfreeze in (1, 2, len(built.blocks) - 1):
        assert_parts_make_the_whole(built, unfreeze)


def test_cutting_off_nothing_or_everything_leaves_the_model_itself(vgg16):
    assert vgg16.split(0) == (vgg16.model, None)
    assert vgg16.split("all") == vgg16.split(5) == (None, vgg16.model)


def test_blocks_have_the_networks_own_names(vgg16):
    assert [block.name for block in vgg16.blocks] == [f"block{k}" for k in range(1, 6)]
    last = ["block5_conv1", "block5_conv2", "block5_conv3", "block5_pool"]
    assert [layer.name for layer in vgg16.blocks[-1].layers] == last
    assert vgg16.blocks[-1].output is vgg16.model.output


@pytest.mark.parametrize("unfreeze", [6, -1])
def test_unfreezing_more_blocks_than_there_are_names_them(vgg16, unfreeze):
    with pytest.raises(
        BackboneError, match=r"from 0 to 5.*Received: -?\d.*block1, block2"
    ) as error:
        vgg16.split(unfreeze)
    assert str(unfreeze) in str(error.value)


def branching_model() -> keras.Model:
    """Two residual blocks, an operation that is no layer, and a closing layer."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, name="in")(inputs)
    for block in ("a", "b"):
        y = keras.layers.Dense(4, name=f"{block}_1")(x)
        y = keras.layers.Dense(4, name=f"{block}_2")(y)
        x = keras.ops.add(x, y)
    return keras.Model(inputs, keras.layers.Dense(4, name="out")(x))


def test_boundaries_are_exactly_where_keras_can_build_the_upper_part():
    model = branching_model()
    operations, boundaries = find_boundaries(model)
    cuttable = []
    for position, operation in enumerate(operations[:-1]):
        with contextlib.suppress(ValueError):  # Keras: "is not connected to `inputs`"
            keras.Model(operation.output, model.output)
            cuttable.append(position)
    assert [*cuttable, len(operations) - 1] == list(boundaries)
    assert len(boundaries) == 4  # "in", the two sums, "out"


def test_what_comes_before_the_blocks_is_the_stem_and_what_comes_after_joins_the_last():
    blocks = find_blocks(branching_model(), re.compile(r"([ab])_"))
    layers = {block.name: [layer.name for layer in block.layers] for block in blocks}
    assert layers == {"stem": ["in"], "a": ["a_1", "a_2"], "b": ["b_1", "b_2", "out"]}


def test_blocks_without_a_boundary_between_them_are_refused():
    with pytest.raises(BackboneError, match="no clean boundary"):
        find_blocks(branching_model(), re.compile(r"a_(\d)"))


def test_interleaved_blocks_are_refused():
    inputs = keras.Input((4,))
    x = inputs
    for name in ("a_1", "b_1", "a_2", "b_2"):
        x = keras.layers.Dense(4, name=name)(x)
    with pytest.raises(BackboneError, match="no clean boundary"):
        find_blocks(keras.Model(inputs, x), re.compile(r"([ab])_"))


def test_a_layer_used_twice_is_refused():
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(4, name="a_1")
    with pytest.raises(BackboneError, match="used more than once"):
        find_blocks(keras.Model(inputs, layer(layer(inputs))), re.compile(r"(a)_"))


def test_layers_without_block_names_are_refused():
    with pytest.raises(BackboneError, match="cannot be identified"):
        find_blocks(branching_model(), re.compile(r"(stage)_"))


def test_a_saved_model_loads_after_it_was_cut(vgg16, tmp_path):
    vgg16.split(2)
    x = inputs = keras.Input((*SIZE, 3))
    for layer in vgg16.preprocess:
        x = layer(x)
    model = keras.Model(inputs, vgg16.model(x))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(images()), model(images()))


# --- scaling ---------------------------------------------------------------------------------

MODULES = {
    "vgg": "vgg16",
    "resnet": "resnet",
    "resnetv2": "resnet_v2",
    "mobilenet": "mobilenet",
    "mobilenet_v2": "mobilenet_v2",
    "mobilenet_v3": "mobilenet_v3",
    "efficientnet": "efficientnet",
    "efficientnet_v2": "efficientnet_v2",
    "densenet": "densenet",
    "inception": "inception_v3",
    "xception": "xception",
    "convnext": "convnext",
}


def module_of(name: str) -> str:
    if name.startswith("resnet"):
        return "resnet_v2" if name.endswith("v2") else "resnet"
    return MODULES[max((stem for stem in MODULES if name.startswith(stem)), key=len)]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_scaling_is_that_of_preprocess_input(name):
    x = images(1)
    module = importlib.import_module(f"keras.applications.{module_of(name)}")
    ours = x
    for layer in scaling_layers(APPLICATIONS[name][1].scaling):
        ours = layer(ours)
    np.testing.assert_allclose(ours, module.preprocess_input(x.copy()), atol=1e-4)


def test_the_bundled_backbone_scales_as_it_was_trained():
    (layer,) = random_backbone("bundled:efficientnet_lite0").preprocess
    np.testing.assert_allclose(layer(images(1)), (images(1) - 127) / 128, atol=1e-5)


@pytest.fixture
def mixed_bfloat16():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


@pytest.mark.usefixtures("mixed_bfloat16")
@pytest.mark.parametrize("preset", ["keras:mobilenet", "bundled:efficientnet_lite0"])
def test_a_backbone_follows_the_dtype_policy_and_its_scaling_stays_exact(preset):
    built = build_backbone(
        Backbone(
            preset=preset,
            weights=None if preset.startswith("keras") else "imagenet",
            image_size=SIZE,
        )
    )
    assert {keras.backend.standardize_dtype(v.dtype) for v in built.model.weights} == {"float32"}
    assert built.model.output.dtype == "bfloat16"
    (scale,) = built.preprocess
    assert keras.backend.standardize_dtype(scale(images()).dtype) == "float32"


# --- the table and its arguments -------------------------------------------------------------


def test_every_row_names_a_constructor_and_the_light_copy_agrees():
    for constructor, _ in APPLICATIONS.values():
        assert callable(getattr(keras.applications, constructor))
    assert set(KERAS_PRESETS) == set(APPLICATIONS)
    assert "keras:vgg16" in KNOWN_PRESETS and "bundled:efficientnet_lite0" in KNOWN_PRESETS


@pytest.mark.parametrize(
    ("preset", "meant"),
    [
        ("keras:resnet5O", "resnet50"),
        ("bundled:efficientnet_lite", "efficientnet_lite0"),
        ("hub:resnet_50_imagent", "resnet_50_imagenet"),
    ],
)
def test_a_misspelt_preset_gets_a_suggestion(preset, meant):
    assert f"Did you mean {meant!r}?" in error_of(preset=preset)


@pytest.mark.parametrize("preset", ["keras:mobilenet", "bundled:efficientnet_lite0"])
def test_a_misspelt_argument_gets_a_suggestion(preset):
    name = {"keras:mobilenet": "alpha", "bundled:efficientnet_lite0": "dropout"}[preset]
    message = error_of(preset=preset, arguments={name[:-1]: 0.5})
    assert f"Did you mean {name!r}?" in message


def test_an_argument_reaches_the_constructor():
    assert (
        random_backbone("keras:mobilenet", arguments={"alpha": 0.25}).model.output.shape[-1] == 256
    )


def test_an_argument_that_the_recipe_decides_is_refused():
    assert "`backbone.image_size`" in error_of(
        preset="keras:vgg16", arguments={"input_shape": (64, 64, 3)}
    )


@pytest.mark.parametrize(
    "name", ["vgg16", "resnet50", "mobilenet_v3_small", "inception_v3", "xception", "convnext_tiny"]
)
def test_an_image_too_small_for_the_family_says_the_least_size(name):
    least = {"inception_v3": 75, "xception": 71}.get(name, 32)
    message = error_of(preset=f"keras:{name}", image_size=(24, 24))
    assert f"at least {least}x{least}" in message and "(24, 24" in message
