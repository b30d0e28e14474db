"""The shipped backbone is what ORIGIN.md says it is, and the tool that makes it reads safely."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import pickle
import re
import sys
import types
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "sft_keras" / "bundled" / "efficientnet_lite0"
TOOL = ROOT / "tools" / "make_bundled_preset.py"
# EfficientNet-Lite0, one row a stack of blocks: how many, the stride of the first, whether they
# expand. From models/official/efficientnet/lite/efficientnet_lite_builder.py of tensorflow/tpu.
STACKS = (
    (1, 1, False),
    (2, 2, True),
    (2, 2, True),
    (3, 2, True),
    (3, 1, True),
    (4, 2, True),
    (1, 1, True),
)


@pytest.fixture(scope="module")
def tool():
    """Tools are no package, so the file is loaded by its path."""
    spec = importlib.util.spec_from_file_location("make_bundled_preset", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def backbone():
    return load(BUNDLED)


def load(folder: Path):
    import keras_hub

    return keras_hub.models.Backbone.from_preset(str(folder.resolve()), dtype="float32")


def original_network(images: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """The original network, without Keras: its convolutions pad as TensorFlow's "SAME" does."""
    import tensorflow as tf

    left = iter(weights)

    def batch_norm(x):
        scale, offset, mean, variance = (next(left) for _ in range(4))
        return tf.nn.batch_normalization(x, mean, variance, offset, scale, 1e-3)

    def conv(x, stride=1):
        return batch_norm(tf.nn.conv2d(x, next(left), stride, "SAME"))

    def depthwise_conv(x, stride):
        strides = (1, stride, stride, 1)
        return batch_norm(tf.nn.depthwise_conv2d(x, next(left), strides, "SAME"))

    x = tf.nn.relu6(conv(images, 2))
    for repeats, first_stride, expands in STACKS:
        for repeat in range(repeats):
            y = tf.nn.relu6(conv(x)) if expands else x
            y = tf.nn.relu6(depthwise_conv(y, 1 if repeat else first_stride))
            # The first block of each stack changes the number of channels: nothing to add to.
            x = conv(y) + x if repeat else conv(y)
    features = tf.nn.relu6(conv(x)).numpy()
    assert next(left, None) is None
    return features


def torch_file(monkeypatch, tensors: dict[str, tuple], numbers: np.ndarray) -> io.BytesIO:
    """Write the old PyTorch format with a stand-in for torch: one float32 storage, any views."""
    rebuild = types.FunctionType((lambda: None).__code__, {}, "_rebuild_tensor_v2")
    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    storage_type = type("FloatStorage", (), {"__module__": "torch"})
    utils = types.SimpleNamespace(_rebuild_tensor_v2=rebuild)
    torch = types.SimpleNamespace(_utils=utils, FloatStorage=storage_type)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    storage = storage_type()

    class View:
        def __init__(self, *view):
            self.view = view

        def __reduce__(self):
            return rebuild, (storage, *self.view, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if obj is storage:
                return ("storage", storage_type, "0", "cpu", numbers.size, None)

    file = io.BytesIO()
    views = OrderedDict((name, View(*view)) for name, view in tensors.items())
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, views, ["0"]):
        Pickler(file, protocol=2).dump(part)
    file.write(numbers.size.to_bytes(8, "little") + numbers.astype("<f4").tobytes())
    file.seek(0)
    return file


class Malicious:
    def __init__(self, function, argument):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, getattr, __import__])
def test_unpickler_refuses_other_globals(tool, function, tmp_path):
    ran = tmp_path / "ran"
    data = pickle.dumps(Malicious(function, f"touch {ran}"))
    with pytest.raises(pickle.UnpicklingError, match=rf"Received: \w+\.{function.__name__}"):
        tool.TensorUnpickler(io.BytesIO(data)).load()
    with pytest.raises(pickle.UnpicklingError, match="may run code"):
        tool.read_torch_file(io.BytesIO(data))
    assert not ran.exists()


def test_reader_follows_offsets_and_strides(tool, monkeypatch):
    views = {"plain": (0, (2, 3), (3, 1)), "transposed": (6, (2, 3), (1, 2)), "one": (11, (), ())}
    tensors = tool.read_torch_file(torch_file(monkeypatch, views, np.arange(12)))
    np.testing.assert_array_equal(tensors["plain"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(tensors["transposed"], [[6, 8, 10], [7, 9, 11]])
    assert tensors["one"] == 11


@pytest.mark.parametrize("view", [(7, (2, 3), (3, 1)), (0, (2,), (-1,)), (-1, (2,), (1,))])
def test_reader_stays_inside_the_storage(tool, monkeypatch, view):
    with pytest.raises(ValueError, match="must lie inside its storage"):
        tool.read_torch_file(torch_file(monkeypatch, {"outside": view}, np.arange(12)))


def test_reader_names_what_it_does_not_read(tool, monkeypatch):
    with pytest.raises(ValueError, match="zip archive"):
        tool.read_torch_file(io.BytesIO(b"PK\x03\x04rest"))
    with pytest.raises(ValueError, match="not a PyTorch file"):
        tool.read_torch_file(io.BytesIO(pickle.dumps(1)))
    whole = torch_file(monkeypatch, {"plain": (0, (12,), (1,))}, np.arange(12)).getvalue()
    with pytest.raises(ValueError, match="cut short"):
        tool.read_torch_file(io.BytesIO(whole[:-1]))


def test_another_file_is_not_opened(tool, tmp_path):
    (tmp_path / "other.whl").write_bytes(b"not the wheel")
    with pytest.raises(ValueError, match=r"other\.whl must have the sha256 "):
        tool.check_sha256(tmp_path / "other.whl", tool.WHEEL_SHA256)


def test_origin_pins_the_files(tool):
    origin = (BUNDLED / "ORIGIN.md").read_text()
    pinned = re.search(r"sha256 of `model\.weights\.h5` \| `(\w{64})`", origin).group(1)
    assert hashlib.sha256((BUNDLED / "model.weights.h5").read_bytes()).hexdigest() == pinned
    assert f"`{tool.PACKAGE}`, version {tool.VERSION}" in origin
    assert tool.WHEEL_SHA256 in origin and tool.WEIGHTS_IN_WHEEL in origin
    assert "Apache License" in (BUNDLED / "LICENSE").read_text()


def test_weights_are_plain_float16():
    """Only numbers: no pickled or opaque HDF5 types, and half the size of float32."""
    kinds = set()
    with h5py.File(BUNDLED / "model.weights.h5") as file:
        file.visititems(lambda _, item: kinds.add(getattr(item, "dtype", None)))
    assert kinds - {None} == {np.dtype(np.float16)}
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 7.5e6


def test_preset_loads_in_float32(backbone):
    assert type(backbone).__name__ == "EfficientNetBackbone"
    assert {str(weight.dtype) for weight in backbone.weights} == {"float32"}
    # The published network has 4,694,024 numbers: 1,281,000 of them are the classifier's.
    assert backbone.count_params() == 4_694_024 - 1_281_000
    assert all(np.isfinite(weight).all() for weight in backbone.get_weights())
    images = np.random.default_rng(0).uniform(-1, 1, (2, 65, 65, 3)).astype("float32")
    features = np.asarray(backbone(images, training=False))
    assert features.shape == (2, 3, 3, 1280)
    assert np.isfinite(features).all() and 0 <= features.min() < features.max() <= 6


@pytest.mark.parametrize("size", [(64, 64), (65, 65), (70, 100)])
def test_network_is_the_original_at_every_image_size(backbone, size):
    """Even sizes tell the paddings apart: padding both sides alike gives other features there."""
    images = np.random.default_rng(1).uniform(-1, 1, (2, *size, 3)).astype("float32")
    expected = original_network(images, backbone.get_weights())
    np.testing.assert_allclose(backbone(images, training=False), expected, atol=1e-3)


@pytest.mark.shared
def test_weights_are_the_float32_ones_rounded(backbone, shared_folder):
    # That preset has other blocks, with layers of other names, but the same order of weights.
    earlier = load(shared_folder / "weights" / "efficientnet_lite0_imagenet")
    for ours, theirs in zip(backbone.variables, earlier.get_weights(), strict=True):
        rounded = theirs.astype(np.float16)
        np.testing.assert_array_equal(np.asarray(ours), rounded, err_msg=ours.path)
