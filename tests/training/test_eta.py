"""How long training goes on, of stages too that have not begun."""

import keras
import numpy as np
import pytest
from prepared_split import coloured_splits

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.cache.feature_cache import StageInput
from sft_keras.data.examples import DataInfo
from sft_keras.tasks import ImageClassification
from sft_keras.training.eta import EtaEstimator, clock_time, multiplications

SIZES = {"train": 20, "validation": 10, "test": 10}


def test_multiplications_are_those_of_kernels_where_they_are_applied():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(5)(x))
    assert multiplications(model.layers) == 16 * (27 * 4) + 16 * (9 * 4) + 4 * 5
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(100, 6)(tokens)
    model = keras.Model(tokens, keras.layers.Dense(7)(x))
    assert multiplications(model.layers) == 6 * 7


@pytest.fixture(scope="module")
def time_left(build_staged):
    """Of a head and a top stage on a model whose blocks are known to take as long as they do."""
    recipe = Recipe(
        task=ImageClassification(),
        data=Data(source="digits", batch_size=5),
        backbone=Backbone(preset="bundled:efficientnet_lite0"),
        stages=(
            Stage(name="head", epochs=2, learning_rate=0.1),
            Stage(name="top", epochs=3, learning_rate=0.1, unfreeze=1),
        ),
    )
    labels = np.zeros(3, np.int64)
    info = DataInfo("digits", ("a", "b", "c"), SIZES, dict.fromkeys(SIZES, labels), {})
    return lambda: EtaEstimator(build_staged(), recipe, info), recipe.stages


def reading(from_boundary, frozen_pass=None):
    return StageInput(coloured_splits(SIZES), from_boundary, "", frozen_pass)


def seconds(words):
    minutes, rest = words.split(" left")[0].removeprefix("about ").split(":")
    return 60 * int(minutes) + int(rest)


def test_later_stages_are_guessed_from_the_frozen_pass(time_left):
    make, (head, top) = time_left
    left = make()
    assert left.describe(top, 0.5, 8) == "0:04 left"  # none comes after it
    left.begin_stage(head, reading(True, {"seconds": 90.0, "epoch_seconds": 900.0}))
    said = left.describe(head, 0.5, 8)
    assert said.startswith("about ")
    # Of the blocks, so many times as long as in an epoch of the pass, which read 30 examples.
    model = left._staged
    blocks = [multiplications(block.layers) for block in model.backbone.blocks]
    above = blocks[-1] + multiplications(model.head.layers)
    examples = 3 * (3 * 20 + 10)
    expected = 4 + 900 * examples / 30 * above / sum(blocks)
    assert seconds(said) == pytest.approx(expected, abs=1)


def test_without_a_pass_the_stage_that_goes_on_says_it_or_nothing_does(time_left):
    make, (head, _) = time_left
    left = make()
    left.begin_stage(head, reading(True))
    assert left.describe(head, 0.5, 8) == "0:04 left of the stage"
    left.begin_stage(head, reading(False))
    # All blocks in each step: the later stage takes longer than as many steps of this one.
    assert seconds(left.describe(head, 100.0, 8)) > 800 + 12 * 100


def test_hours_are_shown_as_such():
    assert [clock_time(each) for each in (59.6, 3599, 3725)] == ["1:00", "59:59", "1:02:05"]
