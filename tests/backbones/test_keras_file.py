"""Backbones from a `.keras` file of one's own."""

import dataclasses

import keras
import numpy as np
import pytest

from sft_keras import Backbone
from sft_keras.backbones.build import build_backbone
from sft_keras.core.errors import BackboneError

layers = keras.layers


def classifier():
    """A small residual classifier, as somebody might have trained it."""
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Rescaling(1 / 255, name="rescale")(image)
    x = layers.Conv2D(4, 3, strides=2, name="first")(x)
    x = layers.BatchNormalization(name="first_norm")(x)
    x = layers.ReLU(name="first_relu")(x)
    y = layers.Conv2D(4, 3, padding="same", name="inner_a")(x)
    y = layers.Conv2D(4, 3, padding="same", name="inner_b")(y)
    x = layers.Add(name="join")([x, y])
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Conv2D(6, 3, name="last")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.Dense(3, activation="softmax", name="classes")(x)
    return keras.Model(image, x, name="mine")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return classifier()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "mine.keras"
    model.save(path)
    return path


def backbone(path, **fields):
    return Backbone(**({"preset": f"file:{path}", "image_size": (32, 32)} | fields))


def test_the_head_is_cut_off_and_blocks_end_where_the_model_can_be_cut(file, model):
    built = build_backbone(backbone(file))
    assert [block.name for block in built.blocks] == ["first", "inner_a", "last"]
    assert [layer.name for layer in built.blocks[1].layers] == [
        "inner_a",
        "inner_b",
        "join",
        "pool",
    ]
    assert built.model.output_shape == (None, 5, 5, 6) and built.preprocess == ()
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    expected = keras.Model(model.input, model.get_layer("last").output)(images)
    np.testing.assert_array_equal(built.model(images), expected)
    covered = [layer.name for block in built.blocks for layer in block.layers]
    assert covered == [layer.name for layer in built.model.layers[1:]]


def test_output_blocks_and_scaling_are_arguments(file):
    arguments = {"output": "pool", "blocks": "(first|inner)_?", "scale": 2.0, "offset": -1.0}
    built = build_backbone(backbone(file, arguments=arguments))
    assert [block.name for block in built.blocks] == ["stem", "first", "inner"]
    assert built.model.output_shape == (None, 7, 7, 4)
    (scale,) = built.preprocess
    np.testing.assert_allclose(scale(np.full((1, 1, 1, 3), 3.0, np.float32)), 5.0)


def test_a_sequential_model_and_a_backbone_used_as_a_layer_are_taken_apart(tmp_path):
    inner = keras.Sequential(
        [keras.Input((32, 32, 3)), layers.Conv2D(2, 3, name="a"), layers.Conv2D(2, 3, name="b")]
    )
    inner.save(tmp_path / "inner.keras")
    names = [block.name for block in build_backbone(backbone(tmp_path / "inner.keras")).blocks]
    assert names == ["a", "b"]
    base = keras.Model(inner.inputs, inner.outputs[0], name="base")
    image = keras.Input((32, 32, 3))
    outer = keras.Model(image, layers.Dense(2)(layers.GlobalMaxPooling2D()(base(image))))
    outer.save(tmp_path / "outer.keras")
    built = build_backbone(backbone(tmp_path / "outer.keras"))
    assert [block.name for block in built.blocks] == ["a", "b"]
    for value, expected in zip(built.model.get_weights(), inner.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_random_weights_are_new_ones(file, model):
    built = build_backbone(backbone(file, weights=None))
    drawn = built.model.get_layer("last").get_weights()[0]
    assert not np.array_equal(drawn, model.get_layer("last").get_weights()[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": (64, 48)}, r"image_size=32x32"),
        ({"arguments": {"output": "pol"}}, r"Received: 'pol'. Did you mean 'pool'\?"),
        ({"arguments": {"ouput": "pool"}}, r"Received: 'ouput'. Did you mean 'output'\?"),
        ({"arguments": {"scaling": "keras"}}, r"must be one of tf, torch, caffe, none"),
        ({"arguments": {"scaling": "tf", "scale": 1.0}}, r"either scaling or scale and offset"),
    ],
)
def test_what_does_not_fit_is_named(file, fields, message):
    with pytest.raises(BackboneError, match=message):
        build_backbone(backbone(file, **fields))


def test_files_that_are_no_model_are_named(tmp_path):
    with pytest.raises(BackboneError, match=r"missing.keras', which does not exist"):
        build_backbone(backbone(tmp_path / "missing.keras"))
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(BackboneError, match=r"cannot be loaded as a Keras model"):
        build_backbone(backbone(tmp_path / "text.keras"))


@pytest.mark.slow
def test_a_run_trains_it_in_stages_and_freezes_bit_for_bit(file, tiny_recipe, tmp_path):
    import sft_keras

    recipe = dataclasses.replace(tiny_recipe, backbone=backbone(file))
    result = sft_keras.finetune(recipe, run_dir=tmp_path / "run")
    head, top = result.report["stages"]
    assert head["frozen_blocks"].startswith("computed once")
    assert head["audit"]["frozen_identical"] and top["audit"]["frozen_identical"]
    kernel = result.model.get_layer("mine").get_layer("first").get_weights()[0]
    np.testing.assert_array_equal(
        kernel, keras.models.load_model(file).get_layer("first").get_weights()[0]
    )
