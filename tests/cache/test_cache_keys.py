"""Whatever computes a collection's rows is in its key, and nothing else."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from sft_keras import Store
from sft_keras.cache.boundary import boundary_of
from sft_keras.cache.keys import collection_key
from sft_keras.core import versions

layers = keras.layers


def network(
    *,
    size=8,
    strides=1,
    padding="same",
    activation="relu",
    epsilon=1e-3,
    pooled="max",
    crossed=False,
    last_dtype="float32",
    names=("conv", "norm", "act"),
    value=0.5,
):
    """A small network, whose weights are the same whatever its graph is."""
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(4, 3, strides=strides, padding=padding, name=names[0])(inputs)
    x = layers.BatchNormalization(epsilon=epsilon, name=names[1])(x)
    y = layers.Activation(activation, name=names[2])(x)
    pool = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}[pooled]
    z = pool(3, 1, "same")(y)
    x = layers.Subtract()([z, y] if crossed else [y, z])
    x = layers.Dense(5, dtype=last_dtype)(keras.ops.flip(x, axis=1))
    model = keras.Model(inputs, x * value)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


def scaling(scale=1 / 127.5, offset=-1.0):
    return (layers.Rescaling(scale, offset),)


def key_of(model=None, preprocess=None, settings=None):
    preprocess = scaling() if preprocess is None else preprocess
    return collection_key(model or network(), preprocess, settings or {})


@pytest.fixture(scope="module")
def key():
    return key_of()


# The key of a collection: what computes its rows.


def turn_bit(variable):
    values = variable.numpy()
    values.reshape(-1).view(np.uint32)[0] ^= 1
    variable.assign(values)


@pytest.mark.parametrize("name", ["kernel", "bias", "gamma", "moving_mean", "moving_variance"])
def test_one_bit_of_one_weight_or_statistic_is_another_key(key, name):
    model = network()
    variable = next(weight for weight in model.weights if weight.name == name)
    turn_bit(variable)
    assert key_of(model) != key
    turn_bit(variable)
    assert key_of(model) == key


def test_two_weights_exchanged_are_another_key(key):
    model = network()
    gamma, beta = model.get_layer("norm").gamma, model.get_layer("norm").beta
    before = gamma.numpy(), beta.numpy()
    gamma.assign(before[1])
    beta.assign(before[0])
    assert key_of(model) != key


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "tanh"},
        {"strides": 2},
        {"padding": "valid"},
        {"epsilon": 1e-5},
        {"pooled": "average"},
        {"crossed": True},
        {"last_dtype": "mixed_bfloat16"},
        {"last_dtype": "mixed_float16"},
        {"size": 16},
        {"value": 0.25},
    ],
    ids=str,
)
def test_another_graph_with_the_same_weights_is_another_key(key, change):
    changed = network(**change)
    for one, other in zip(changed.weights, network().weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert key_of(changed) != key


@pytest.mark.parametrize("activations", [("relu", "gelu"), ("same", "valid"), ("max", "float32")])
def test_layers_called_like_what_they_do_hide_nothing(activations):
    # "relu" is a layer's name here and an activation there, and only the name says nothing.
    first, second = (
        network(
            activation=each if each in ("relu", "gelu") else "relu",
            padding=each if each in ("same", "valid") else "same",
            names=("conv", "norm", each),
        )
        for each in activations
    )
    is_same = activations == ("max", "float32")
    assert (key_of(first) == key_of(second)) == is_same


def test_the_dtype_policy_of_the_last_layer_is_in_the_key():
    # No other layer's configuration says what it gives.
    def ending(dtype):
        inputs = keras.Input((8, 8, 3))
        last = layers.Dense(2, kernel_initializer="ones", dtype=dtype)
        return keras.Model(inputs, last(inputs))

    assert len({key_of(ending(f"{each}float16")) for each in ("mixed_", "mixed_b")}) == 2
    assert key_of(ending("float32")) == key_of(ending("float32")) != key_of(ending("mixed_float16"))


def test_a_nested_networks_activation_is_in_the_key():
    def nested(activation):
        inputs = keras.Input((8, 8, 3))
        wrapped = layers.TimeDistributed(layers.Dense(2, activation=activation, name=activation))
        inner = keras.Model(inputs, wrapped(inputs), name=f"inner_{activation}")
        outer = keras.Sequential([keras.Input((8, 8, 3)), inner])
        for weight in outer.weights:
            weight.assign(np.ones(weight.shape))
        return outer

    assert key_of(nested("relu")) == key_of(nested("relu"))
    assert key_of(nested("relu")) != key_of(nested("gelu"))


def adapted(mean):
    layer = layers.Normalization()
    layer.adapt(np.array([[mean, 0.0, 0.0], [mean, 1.0, 1.0]], np.float32))
    return layer


@pytest.mark.parametrize(
    ("preprocess", "other"),
    [
        (scaling(), scaling(scale=1 / 128)),
        (scaling(), scaling(offset=0.0)),
        (scaling(), scaling(scale=np.nextafter(1 / 127.5, 1.0))),
        (scaling(), ()),
        (scaling(), scaling() + scaling()),
        (scaling([1.0, 2.0, 3.0]), scaling([1.0, 3.0, 2.0])),
        (
            (layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 1.0, 1.0]),),
            (layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 1.0, 4.0]),),
        ),
    ],
)
def test_another_scaling_of_the_input_is_another_key(preprocess, other):
    assert key_of(preprocess=preprocess) != key_of(preprocess=other)


def test_another_scaling_that_was_learnt_from_data_is_another_key():
    first, second, again = ((adapted(mean),) for mean in (1.0, 2.0, 1.0))
    assert key_of(preprocess=first) != key_of(preprocess=second)
    assert key_of(preprocess=first) == key_of(preprocess=again)


def test_what_is_scaling_is_not_taken_for_network():
    inputs = keras.Input((8, 8, 3))
    small = keras.Model(inputs, layers.Dense(3)(inputs))
    assert key_of(small, preprocess=()) != key_of(small, preprocess=(small,))


@pytest.mark.parametrize("package", ["tensorflow", "keras", "keras-hub", "sft_keras"])
def test_another_version_of_a_package_is_another_key(key, monkeypatch, package):
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata,
        "version",
        lambda name: "99.0" if name == package else version(name),
    )
    if package == "sft_keras":
        monkeypatch.setattr(versions, "__version__", "99.0")
    assert key_of() != key


def test_a_package_under_another_name_has_a_version_too(key, monkeypatch):
    # As tf-nightly, which is tensorflow.
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    nightly = key_of()
    monkeypatch.setattr(sys.modules["tensorflow"], "__version__", "99.0")
    assert key_of() != nightly


@pytest.mark.parametrize(
    ("store", "other"),
    [
        (Store(), Store(dtype="float16")),
        (Store(dtype="float16"), Store(dtype="bfloat16")),
        # Both store bfloat16: what was computed in float32, or in bfloat16.
        (Store(dtype="bfloat16"), Store(dtype="bfloat16", precision="bfloat16")),
        (Store(), Store(batch_size=31)),
    ],
    ids=["float16", "bfloat16", "precision", "batch_size"],
)
def test_another_way_of_storing_or_computing_is_another_key(build_staged, store, other):
    staged, images = build_staged(), np.zeros((1, 16, 16, 3), np.float32)
    found = [boundary_of(staged, 2, each, images).key for each in (store, other)]
    assert found[0] != found[1]


def test_what_decides_on_no_bit_is_not_in_the_key(build_staged):
    staged, images = build_staged(), np.zeros((1, 16, 16, 3), np.float32)
    stored = boundary_of(staged, 2, Store(), images)
    assert boundary_of(staged, 2, Store(views=7, folder="elsewhere"), images).key == stored.key


def test_boundaries_have_keys_of_their_own_and_so_have_their_views(build_staged):
    staged, images = build_staged(), np.zeros((1, 16, 16, 3), np.float32)
    found = [boundary_of(staged, below, Store(), images) for below in (1, 2, 3, 4)]
    found += [boundary.with_targets(classes) for boundary in found for classes in (2, 3)]
    assert len({boundary.key for boundary in found}) == 12


# The same network has the same key.


def test_a_network_built_a_second_time_has_the_same_key(key):
    network(size=16)  # so that Keras gives the layers other numbers
    assert key_of() == key


def test_the_names_of_layers_say_nothing(key):
    assert key_of(network(names=("a", "b", "c"))) == key
    assert key_of(network(names=("norm", "act", "conv"))) == key


def test_being_used_compiled_or_frozen_changes_no_key(key, build_staged):
    model = network()
    model.trainable = False
    assert key_of(model) == key
    model.predict(np.zeros((2, 8, 8, 3)), verbose=0)
    outer = keras.Input((8, 8, 3))
    keras.Model(outer, model(outer)).compile("sgd", "mse")
    assert key_of(model) == key
    staged, images = build_staged(), np.zeros((1, 16, 16, 3), np.float32)
    before = [boundary_of(staged, below, Store(), images).key for below in (1, 2, 3, 4)]
    for unfreeze in (0, 1, 2, "all"):
        staged.stage_model(unfreeze)
    staged.backbone.model.trainable = False
    after = [boundary_of(staged, below, Store(), images).key for below in (1, 2, 3, 4)]
    assert after == before


def test_a_network_that_was_saved_and_loaded_has_the_same_key(key, tmp_path):
    model = network()
    model.save(tmp_path / "model.keras")
    assert key_of(keras.models.load_model(tmp_path / "model.keras")) == key


@pytest.mark.slow  # another process has to import TensorFlow
def test_another_process_gives_the_same_key(key):
    code = "from test_cache_keys import key_of; key_of(); print('KEY', key_of())"
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here, here.parent, *sys.path)))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert f"KEY {key}" in ran.stdout, ran.stderr
