"""A finished run on images, and its model as it is served."""

import numpy as np
import pytest

import sft_keras
from sft_keras import Arrays, Data, Recipe, Stage
from sft_keras.tasks import ImageClassification

NAMES = ("red", "green\n", "blü")


@pytest.fixture(scope="package")
def image_run(tmp_path_factory, tiny_backbone, colour_images):
    """A run of one short stage, to classes of odd names."""
    recipe = Recipe(
        task=ImageClassification(),
        data=Data(source=Arrays(train=colour_images, class_names=NAMES), batch_size=8),
        backbone=tiny_backbone,
        stages=(Stage(name="head", epochs=1, learning_rate=1e-2),),
    )
    return sft_keras.finetune(recipe, run_dir=tmp_path_factory.mktemp("runs") / "colours")


@pytest.fixture(scope="package")
def encoded(colour_images):
    """Six images of the run as PNG files."""
    import tensorflow as tf

    return [tf.io.encode_png(np.asarray(image)).numpy() for image in colour_images[0][:6]]
