"""Model files that an earlier version saved load, and compute what they computed then.

`saved/NAME.keras` was written while its layers were in other modules: together they
contain every layer that the package registers. `saved/NAME.npz` has inputs and the outputs that
that version computed for them.
"""

import re
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.saving import get_custom_objects

import sft_keras.backbones.text
import sft_keras.tasks.masked_lm.head  # noqa: F401  so that all layers are registered

SAVED = Path(__file__).with_name("saved")
NAMES = ("masked_lm", "text_classification")


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_an_earlier_version_computes_the_same_outputs(name):
    model = keras.models.load_model(SAVED / f"{name}.keras")
    with np.load(SAVED / f"{name}.npz") as arrays:
        inputs = {key: arrays[key] for key in arrays if key != "output"}
        expected = arrays["output"]
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(model(inputs), expected, atol=1e-6)


def test_every_registered_layer_is_in_one_of_the_files():
    registered = {name for name in get_custom_objects() if name.startswith("sft_keras>")}
    saved = set()
    for name in NAMES:
        with zipfile.ZipFile(SAVED / f"{name}.keras") as file:
            saved |= set(re.findall(r'"(sft_keras>\w+)"', file.read("config.json").decode()))
    assert saved == registered
