"""Whatever decides on what a row holds, beside its collection, is in its name."""

import dataclasses

import numpy as np
import pytest
from prepared_split import held_split

from sft_keras import Backbone, Data, Recipe, Stage, Store
from sft_keras.cache.feature_cache import FeatureCache
from sft_keras.cache.keys import view_rows
from sft_keras.cache.lookup import RowProvider
from sft_keras.core.reporter import SILENT
from sft_keras.data.batches import ordered_batches
from sft_keras.data.examples import DataInfo
from sft_keras.data.fingerprint import DIGEST_SIZE, digest
from sft_keras.tasks import Augment, ImageClassification


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_one_bit_of_one_input_is_another_name(dtype):
    values = np.zeros((16, 16, 3), dtype)
    turned = values.copy()
    turned.view(np.uint8)[7, 5, 0] ^= 1
    assert len(digest(values)) == DIGEST_SIZE
    assert digest(values) != digest(turned)
    assert digest(values) == digest(values.copy())
    assert digest(turned[::2, ::-1]) == digest(turned[::2, ::-1].copy())


def test_different_inputs_have_different_names():
    assert len({digest(np.array([number], np.int32)) for number in range(20_000)}) == 20_000


DIGESTS = np.random.default_rng(0).integers(0, 256, (6, DIGEST_SIZE), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)


def test_each_view_has_a_name_and_more_views_add_to_those_there_were():
    names = view_rows(DIGESTS, LABELS, 3, "flip")
    assert names.shape == (18, DIGEST_SIZE) and names.dtype == np.uint8
    assert len({name.tobytes() for name in names}) == 18
    np.testing.assert_array_equal(view_rows(DIGESTS, LABELS, 2, "flip"), names[:12])


@pytest.mark.parametrize("change", ["pixel", "label", "order", "example", "drawn"])
def test_views_of_another_split_or_drawn_otherwise_share_no_name(change):
    digests, labels, drawn = DIGESTS.copy(), LABELS.copy(), "flip"
    if change == "pixel":
        digests[5, 0] ^= 1
    elif change == "label":
        labels[5] = 0
    elif change == "order":
        digests, labels = digests[::-1], labels[::-1]
    elif change == "example":
        digests, labels = digests[:5], labels[:5]
    else:
        drawn = "rotation"
    before = {name.tobytes() for name in view_rows(DIGESTS, LABELS, 2, "flip")}
    after = {name.tobytes() for name in view_rows(digests, labels, 2, drawn)}
    assert not before & after


@pytest.fixture(scope="module")
def prepared():
    random = np.random.default_rng(0)
    return {
        name: held_split(
            random.integers(0, 256, (size, 16, 16, 3)).astype(np.uint8), np.arange(size) % 3, name
        )
        for name, size in (("train", 6), ("validation", 4))
    }


class Asked(Exception):
    """Ends a run where it asks for rows."""


def asked_for(staged, splits, **changes):
    """Returns the names of the rows of views that a run asks for."""
    recipe = Recipe(
        task=ImageClassification(augment=Augment(flip=True)),
        data=Data(source="digits", batch_size=3),
        backbone=Backbone(preset="keras:vgg16"),
        stages=(Stage(name="head", epochs=2, learning_rate=0.05),),
        store=Store(views=2),
        cache="memory",
    )
    recipe = dataclasses.replace(recipe, **changes)
    info = DataInfo("noise", ("a", "b", "c"), {"train": 6, "validation": 4}, {}, {})
    store = FeatureCache(staged, recipe, splits, info, reporter=SILENT)
    with pytest.raises(Asked) as asked:
        store.input_of(recipe.stages[0])
    return {name.tobytes() for name in asked.value.args[0]["train"].names}


def test_other_augmentation_seed_batch_size_or_labels_share_no_view(
    prepared, build_staged, monkeypatch
):
    def compute(self, lacking):
        raise Asked(lacking[0][0])

    monkeypatch.setattr(RowProvider, "compute", compute)
    staged = build_staged()
    names = asked_for(staged, prepared)
    assert len(names) == 12
    assert asked_for(staged, prepared) == names
    train = prepared["train"]
    examples = dataclasses.replace(train.examples, labels=train.examples.labels[::-1].copy())
    relabelled = {**prepared, "train": dataclasses.replace(train, examples=examples)}
    for splits, changes in (
        (prepared, {"task": ImageClassification(augment=Augment(rotation=0.1))}),
        (prepared, {"seed": 1}),
        (prepared, {"data": Data(source="digits", batch_size=2)}),
        (relabelled, {}),
    ):
        assert not names & asked_for(staged, splits, **changes)
    assert names < asked_for(staged, prepared, store=Store(views=3))


def test_rows_of_images_are_named_by_their_pixels_alone(prepared):
    (batch,) = ordered_batches(prepared["train"], 6)
    for name, image in zip(prepared["train"].digests, batch["input"].numpy()):
        assert name.tobytes() == digest(image)
