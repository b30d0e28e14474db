"""Backbones: their blocks, cuts, input scaling, weights and what is refused."""

from __future__ import annotations

import contextlib
import importlib
import re
import socket
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

from sft_keras.backbones import KNOWN_PRESETS, BuiltBackbone, build_backbone
from sft_keras.backbones.applications import APPLICATIONS
from sft_keras.backbones.blocks import find_blocks, find_boundaries
from sft_keras.backbones.scaling import scaling_layers
from sft_keras.errors import BackboneError
from sft_keras.presets import KERAS_PRESETS
from sft_keras.recipe import Backbone

SIZE = (32, 32)


def random_backbone(preset: str, **fields) -> BuiltBackbone:
    return build_backbone(Backbone(preset=preset, weights=None, image_size=SIZE, **fields))


@pytest.fixture(
    scope="module", params=["keras:vgg16", "keras:mobilenet", "bundled:efficientnet_lite0"]
)
def built(request) -> BuiltBackbone:
    return random_backbone(request.param)


@pytest.fixture(scope="module")
def vgg16() -> BuiltBackbone:
    return random_backbone("keras:vgg16")


@pytest.fixture
def keras_home(tmp_path, monkeypatch) -> Path:
    """An empty KERAS_HOME; Keras reads the variable once, when it is imported."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def offline(monkeypatch) -> None:
    monkeypatch.setattr("sft_keras.network.is_online", lambda: False)


def error_of(**fields) -> str:
    with pytest.raises(BackboneError) as caught:
        build_backbone(Backbone(**{"weights": None, "image_size": SIZE, **fields}))
    return str(caught.value)


def images(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, *SIZE, 3)).astype("float32")


def assert_covers(built: BuiltBackbone) -> None:
    in_blocks = [layer for block in built.blocks for layer in block.layers]
    in_model = [x for x in built.model.layers if not isinstance(x, keras.layers.InputLayer)]
    assert list(map(id, in_blocks)) == list(map(id, in_model))


def assert_cuts_clean(built: BuiltBackbone, unfreeze: int) -> None:
    x = images()
    prefix, suffix = built.cut(unfreeze)
    top = {id(layer) for block in built.blocks[-unfreeze:] for layer in block.layers}
    weighted = [layer for layer in suffix.layers if layer.weights]
    assert weighted and all(id(layer) in top for layer in weighted)
    np.testing.assert_array_equal(
        suffix(prefix(x, training=False), training=False), built.model(x, training=False)
    )


# --- blocks and cuts -------------------------------------------------------------------------


def test_blocks_hold_every_layer_once_and_in_order(built):
    assert_covers(built)
    assert len({block.name for block in built.blocks}) == len(built.blocks) > 3


def test_prefix_and_suffix_together_are_the_whole_bit_for_bit(built):
    for unfreeze in (1, 2, len(built.blocks) - 1):
        assert_cuts_clean(built, unfreeze)


def test_cutting_off_nothing_or_everything_leaves_the_model_itself(vgg16):
    assert vgg16.cut(0) == (vgg16.model, None)
    assert vgg16.cut("all") == vgg16.cut(5) == (None, vgg16.model)


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
        vgg16.cut(unfreeze)
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
    assert [*cuttable, len(operations) - 1] == boundaries
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
    with pytest.raises(BackboneError, match="cannot be told apart"):
        find_blocks(branching_model(), re.compile(r"(stage)_"))


def test_a_saved_model_loads_after_it_was_cut(vgg16, tmp_path):
    vgg16.cut(2)
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


# --- weights ---------------------------------------------------------------------------------


def test_random_weights_follow_the_global_seed():
    def kernel(seed: int) -> np.ndarray:
        keras.utils.set_random_seed(seed)
        return np.asarray(random_backbone("keras:vgg16").model.get_layer("block1_conv1").kernel)

    np.testing.assert_array_equal(kernel(3), kernel(3))
    assert not np.array_equal(kernel(3), kernel(4))


@pytest.mark.usefixtures("offline")
def test_missing_weights_without_a_network_are_named_in_seconds(keras_home):
    start = time.monotonic()
    message = error_of(preset="keras:vgg16", weights="imagenet")
    assert time.monotonic() - start < 5
    file = keras_home / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert str(file) in message and "There is no network" in message
    assert "--set=backbone.weights=FILE" in message and "--recipe=quickstart" in message


def test_a_failed_download_is_told_like_missing_weights(keras_home, monkeypatch):
    def fail(*args, **kwargs):
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr("sft_keras.network.is_online", lambda: True)
    monkeypatch.setattr("socket.getaddrinfo", fail)
    message = error_of(preset="keras:mobilenet", weights="imagenet")
    assert str(keras_home / "models" / "mobilenet_1_0_224_tf_no_top.h5") in message
    assert "Name or service not known" in message


@pytest.mark.usefixtures("offline")
def test_a_hub_preset_without_a_network_fails_in_seconds(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    import keras_hub  # noqa: F401  (its import is not what is timed)

    start = time.monotonic()
    for preset in ("hub:resnet_50_imagenet", "hub:hf://nobody/nothing"):
        assert "no network" in error_of(preset=preset, weights="imagenet").lower()
    assert time.monotonic() - start < 5


@pytest.mark.usefixtures("offline")
def test_weights_keras_does_not_look_at_are_found_all_the_same(keras_home, tmp_path, monkeypatch):
    # Keras leaves a KERAS_HOME it may not write into aside.
    source = random_backbone("keras:mobilenet", arguments={"alpha": 0.25}).model
    (tmp_path / "elsewhere" / "models").mkdir(parents=True)
    source.save(tmp_path / "weights.h5")
    name = "mobilenet_2_5_224_tf_no_top.h5"
    (tmp_path / "weights.h5").rename(tmp_path / "elsewhere" / "models" / name)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "elsewhere"))
    built = build_backbone(
        Backbone(preset="keras:mobilenet", image_size=SIZE, arguments={"alpha": 0.25})
    )
    np.testing.assert_array_equal(built.model(images()), source(images()))


def test_damaged_downloaded_weights_say_where_to_delete_them(keras_home):
    models = keras_home / "models"
    models.mkdir()
    (models / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    message = error_of(preset="keras:mobilenet", weights="imagenet", image_size=(224, 224))
    assert "damaged" in message and str(models) in message


@pytest.fixture(scope="module")
def vgg16_file(vgg16, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vgg16.weights.h5"
    vgg16.model.save_weights(path)
    return path


def test_a_weights_file_is_loaded(vgg16, vgg16_file):
    built = build_backbone(Backbone(preset="keras:vgg16", weights=str(vgg16_file), image_size=SIZE))
    np.testing.assert_array_equal(built.model(images()), vgg16.model(images()))


def test_a_file_with_the_weights_of_something_else_is_refused(vgg16_file):
    message = error_of(preset="keras:mobilenet", weights=str(vgg16_file))
    assert str(vgg16_file) in message and "do not fit keras:mobilenet" in message


def test_a_file_that_leaves_layers_unloaded_is_refused(vgg16_file, monkeypatch):
    # What Keras does with layers inside layers that a file lacks.
    monkeypatch.setattr(
        keras.Model, "load_weights", lambda *_: warnings.warn("Skipping", stacklevel=1)
    )
    message = error_of(preset="keras:vgg16", weights=str(vgg16_file))
    assert "do not fit keras:vgg16" in message and "Skipping" in message


def test_a_file_that_is_no_weights_file_is_refused(tmp_path):
    path = tmp_path / "noise.weights.h5"
    path.write_bytes(b"no weights")
    assert "do not fit keras:mobilenet" in error_of(preset="keras:mobilenet", weights=str(path))


@pytest.mark.parametrize("preset", ["keras:mobilenet", "bundled:efficientnet_lite0"])
def test_a_weights_path_that_is_no_file_is_refused(preset):
    message = error_of(preset=preset, weights="imagnet")
    assert "Did you mean 'imagenet'?" in message and str(Path("imagnet").absolute()) in message


@pytest.mark.shared
@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("size", [(224, 224), (96, 128)])
def test_cached_imagenet_weights_load_offline_for_any_size(size, shared_folder, monkeypatch):
    home = shared_folder / "keras_home"
    monkeypatch.setenv("KERAS_HOME", str(home))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(home))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built = build_backbone(
            Backbone(preset="keras:mobilenet", image_size=size, arguments={"alpha": 0.75})
        )
    assert built.model.input_shape == (None, *size, 3)
    assert float(np.std(built.model.get_layer("conv1").kernel)) > 0.1  # random ones: 0.05


@pytest.mark.shared
def test_a_float16_weights_file_loads_into_float32_variables(shared_folder):
    file = shared_folder / "weights" / "vgg16_hed_bsds_notop.h5"
    built = build_backbone(Backbone(preset="keras:vgg16", weights=str(file), image_size=SIZE))
    assert {v.dtype for v in built.model.weights} == {"float32"}


# --- KerasHub --------------------------------------------------------------------------------


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
    assert_cuts_clean(built, 2)
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
