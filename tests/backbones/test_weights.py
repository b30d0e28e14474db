"""Weights of backbones: random, downloaded, cached, from a file, and missing."""

from __future__ import annotations

import socket
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from backbone_checks import SIZE, error_of, images, random_backbone

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.build import build_backbone
from sft_keras.recipe.backbone import Backbone


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
    monkeypatch.setattr("sft_keras.core.network.is_online", lambda: False)


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

    monkeypatch.setattr("sft_keras.core.network.is_online", lambda: True)
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
    assert "must be 'pretrained', none or the path" in message


@pytest.mark.shared
@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("size", [(224, 224), (96, 128)])
def test_cached_imagenet_weights_load_offline_for_any_size(size, shared_folder, monkeypatch):
    home = shared_folder / "keras_home"
    monkeypatch.setenv("KERAS_HOME", str(home))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(home))
    with warnings.catch_warnings(record=True) as caught:
        built = build_backbone(
            Backbone(preset="keras:mobilenet", image_size=size, arguments={"alpha": 0.75})
        )
    assert [str(one.message) for one in caught] == []
    assert built.model.input_shape == (None, *size, 3)
    assert float(np.std(built.model.get_layer("conv1").kernel)) > 0.1  # random ones: 0.05


@pytest.mark.shared
def test_a_float16_weights_file_loads_into_float32_variables(shared_folder):
    file = shared_folder / "weights" / "vgg16_hed_bsds_notop.h5"
    built = build_backbone(Backbone(preset="keras:vgg16", weights=str(file), image_size=SIZE))
    assert {v.dtype for v in built.model.weights} == {"float32"}
