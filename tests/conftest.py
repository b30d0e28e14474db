"""Fixtures and settings of all tests.

pytest                          the fast tests, one worker per core
pytest -n 0 -x --pdb            sequentially, in this process
pytest -m slow                  the slow tests
pytest -m shared                tests on real weights and data, see CONTRIBUTING.md
pytest tests/training           the tests of one folder or file
"""

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import pytest

from sft_keras import Arrays, Backbone, Data, Recipe, Stage
from sft_keras.export.paths import SAVED_MODEL
from sft_keras.tasks import Augment, ImageClassification

pytest_plugins = ["image_fixtures"]  # in tests/support

ROOT = Path(__file__).parent.parent

# Tests use a temporary feature cache, never the user's.
_CACHE = tempfile.TemporaryDirectory(prefix="sft_keras_tests_")
os.environ["SFT_KERAS_CACHE"] = _CACHE.name


def pytest_collection_finish() -> None:
    """Exempt what was imported from garbage collection: a million objects that stay anyway."""
    gc.collect()
    gc.freeze()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests that share a finished run in one worker, which then trains it once."""
    from worker_groups import GroupScheduling

    return GroupScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def probe_server() -> Iterator[None]:
    """Probe SavedModels in one process per worker, see `tests/support/probe_server.py`."""
    from probe_server import SERVER

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sft_keras.export.isolated_process.run_isolated", SERVER.run_isolated)
        yield
    SERVER.stop()


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The folder of real weights and data; skips the test if there is none."""
    folder = Path(os.environ.get("SFT_KERAS_SHARED", ROOT.parent / "shared"))
    if not (folder / "weights").is_dir():
        pytest.skip(f"needs real weights and data in {folder} or $SFT_KERAS_SHARED")
    return folder


@pytest.fixture(scope="session")
def colour_images() -> tuple[np.ndarray, np.ndarray]:
    """48 noisy images of 3 colour classes, uint8 [48, 32, 32, 3], and their labels, int64 [48]."""
    random = np.random.default_rng(0)
    labels = np.arange(48) % 3
    images = random.integers(0, 120, (48, 32, 32, 3))
    images[np.arange(48), :, :, labels] += 120
    return images.astype(np.uint8), labels


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory) -> str:
    """The path of a KerasHub preset: a residual network of two small blocks, random weights."""
    from tiny_preset import save_tiny_preset

    return save_tiny_preset(tmp_path_factory.mktemp("presets") / "tiny_resnet")


@pytest.fixture(scope="session")
def tiny_backbone(tiny_preset: str) -> Backbone:
    """The `Backbone` section of a recipe for `tiny_preset`."""
    return Backbone(
        preset=f"hub:{tiny_preset}",
        image_size=(32, 32),
        arguments={"scale": 1 / 128, "offset": -1.0},
    )


@pytest.fixture(scope="session")
def tiny_recipe(tiny_backbone: Backbone) -> Recipe:
    """A recipe of two stages with a tiny backbone on synthetic images."""
    return Recipe(
        task=ImageClassification(dropout=0.1),
        data=Data(source="synthetic:3", batch_size=8),
        backbone=tiny_backbone,
        stages=(
            Stage(name="head", epochs=2, learning_rate=1e-2),
            Stage(name="top", epochs=2, learning_rate=1e-3, unfreeze=1),
        ),
    )


@pytest.fixture(scope="session")
def colours_recipe(tiny_backbone, colour_images) -> Recipe:
    """Images of 3 colours with unusual names; a head stage, then everything."""
    names = ("red", "green\n", "blü")
    return Recipe(
        task=ImageClassification(dropout=0.1, augment=Augment(flip=True)),
        data=Data(
            source=Arrays(train=colour_images, class_names=names),
            batch_size=8,
            validation=0.25,
            test=0.25,
        ),
        backbone=tiny_backbone,
        stages=(
            Stage(name="head", epochs=2, learning_rate=1e-2),
            Stage(name="all", epochs=6, learning_rate=3e-3, unfreeze="all", train_batch_norm=True),
        ),
    )


@pytest.fixture(scope="session")
def image_run(tmp_path_factory, colours_recipe):
    """The finished run of `colours_recipe`, shared by the tests of what is done with a run."""
    from probe_server import SERVER

    import sft_keras

    folder = tmp_path_factory.mktemp("runs") / "colours"
    with SERVER.fresh_process():  # the export is verified as a user's is
        return sft_keras.finetune(colours_recipe, run_dir=folder)


@pytest.fixture(scope="session")
def encoded_images(colour_images) -> list[bytes]:
    """The first six images of `image_run`, encoded as PNG."""
    import tensorflow as tf

    return [tf.io.encode_png(image).numpy() for image in colour_images[0][:6]]


@pytest.fixture(scope="session")
def build_staged():
    """A function that builds a StagedModel for 16x16 images: a stem, three small blocks, a head.

    `block1` and `block3` are convolution, BatchNormalization and dropout; `block2` is a single
    composite layer with a weight of its own in addition to those of its inner layers.
    """
    import re

    import keras

    from sft_keras.backbones.blocks import BuiltBackbone, find_blocks
    from sft_keras.models.heads import classification_head
    from sft_keras.models.staged import StagedModel

    layers = keras.layers

    @keras.saving.register_keras_serializable("tests")
    class Mix(layers.Layer):
        """A composite layer whose `call` takes no `training` argument, like many in practice."""

        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(4, name="dense")
            self.norm = layers.BatchNormalization(name="norm")
            self.dropout = layers.Dropout(0.5)

        def build(self, shape):
            self.scale = self.add_weight(name="scale", shape=(4,), initializer="ones")
            self.dense.build(shape)
            self.norm.build(shape)

        def call(self, x):
            return self.scale * self.dropout(self.norm(self.dense(x)))

        def compute_output_shape(self, shape):
            return shape

    def build(*, seed: int = 0, num_classes: int = 3, head_dropout: float = 0.5) -> StagedModel:
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((16, 16, 3))
        x = layers.Conv2D(4, 3, strides=4, name="stem_conv")(inputs)
        x = layers.Conv2D(4, 3, padding="same", name="block1_conv")(x)
        x = layers.BatchNormalization(name="block1_norm")(x)
        x = layers.Dropout(0.5, name="block1_dropout")(x)
        x = Mix(name="block2_mix")(x)
        x = layers.Conv2D(4, 3, activation="relu", name="block3_conv")(x)
        x = layers.BatchNormalization(name="block3_norm")(x)
        x = layers.Dropout(0.5, name="block3_dropout")(x)
        model = keras.Model(inputs, x, name="tiny")
        blocks = find_blocks(model, re.compile(r"(block\d)"))
        scale = layers.Rescaling(1 / 64, -2.0, name="scale")
        head = classification_head(
            model.output_shape[1:],
            num_classes=num_classes,
            pooling="average",
            hidden=(5,),
            dropout=head_dropout,
        )
        return StagedModel(BuiltBackbone(model, blocks, (scale,)), head, "softmax")

    return build


@pytest.fixture
def staged_of_equal_names():
    """A StagedModel whose only block has a layer with the same name as the head's: "logits"."""
    import keras

    from sft_keras.backbones.blocks import Block, BuiltBackbone
    from sft_keras.models.staged import StagedModel

    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    layer = keras.layers.Dense(4, name="logits")
    model = keras.Model(inputs, layer(inputs), name="tiny")
    features = keras.Input((16, 16, 4))
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    head = keras.Model(features, keras.layers.Dense(3, name="logits")(pooled), name="head")
    block = Block("block1", (layer,), model.output)
    return StagedModel(BuiltBackbone(model, (block,), ()), head, "softmax")


@pytest.fixture
def run_folder(tmp_path):
    """A folder that looks like a finished run until its model is loaded."""
    file = tmp_path / "a run" / SAVED_MODEL / "saved_model.pb"
    file.parent.mkdir(parents=True)
    file.touch()
    return tmp_path / "a run"
