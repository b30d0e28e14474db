"""Shared by all tests.

pytest                          the fast ones, about three minutes on two cores
pytest -m slow                  the rest
pytest -m shared                those on real weights and data, see CONTRIBUTING.md
pytest tests/test_stages.py     one file
"""

import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import pytest

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.tasks import ImageClassification

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The folder of real weights and data, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("SFT_KERAS_SHARED", ROOT.parent / "shared"))
    if not (folder / "weights").is_dir():
        pytest.skip(f"no real weights and data in {folder}; set SFT_KERAS_SHARED")
    return folder


@pytest.fixture(scope="session")
def colour_images() -> tuple[np.ndarray, np.ndarray]:
    """48 noisy images of 3 classes that differ in colour, uint8 [48, 32, 32, 3], and labels."""
    random = np.random.default_rng(0)
    labels = np.arange(48) % 3
    images = random.integers(0, 120, (48, 32, 32, 3))
    images[np.arange(48), :, :, labels] += 120
    return images.astype(np.uint8), labels


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory) -> str:
    """The path of a KerasHub preset: a residual network of two small blocks, random weights."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    folder = tmp_path_factory.mktemp("presets") / "tiny_resnet"
    backbone.save_to_preset(str(folder))
    return str(folder)


@pytest.fixture(scope="session")
def tiny_backbone(tiny_preset: str) -> Backbone:
    """A recipe's section for `tiny_preset`."""
    return Backbone(
        preset=f"hub:{tiny_preset}",
        image_size=(32, 32),
        arguments={"scale": 1 / 128, "offset": -1.0},
    )


@pytest.fixture(scope="session")
def tiny_recipe(tiny_backbone: Backbone) -> Recipe:
    """Two stages on a tiny network and synthetic images."""
    return Recipe(
        task=ImageClassification(dropout=0.1),
        data=Data(source="synthetic:3", batch_size=8),
        backbone=tiny_backbone,
        stages=(
            Stage(name="head", epochs=2, learning_rate=1e-2),
            Stage(name="top", epochs=2, learning_rate=1e-3, unfreeze=1),
        ),
    )
