import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

from sft_keras import Data
from sft_keras.data.batches import ordered_batches, training_batches, with_options
from sft_keras.vision.preprocess import prepare_images
from sft_keras.vision.sources.arrays import Arrays
from sft_keras.vision.sources.open import open_data

COUNT = 23  # not a multiple of the batch size


@pytest.fixture(scope="module", params=["in memory", "streamed"])
def prepared(request):
    # The red channel is the example's number, so that batches show which examples they hold.
    images = np.zeros((COUNT, 4, 4, 3), np.uint8)
    images[..., 0] = np.arange(COUNT)[:, np.newaxis, np.newaxis]
    images[..., 1] = 200
    pair = (images, np.arange(COUNT) % 3)
    splits = open_data(Data(source=Arrays(train=pair, validation=pair, test=pair)), seed=0)
    share = 0.25 if request.param == "in memory" else 0.0
    ready = prepare_images(
        {"train": splits.train}, (4, 4), "stretch", share, lambda done, total: None
    )
    assert (ready["train"].features is None) == (request.param == "streamed")
    return ready["train"]


def _orders(prepared, **arguments):
    """Returns {epoch: [the examples' numbers, batch by batch]}."""
    found = collections.defaultdict(list)
    defaults = {"batch_size": 5, "seed": 0, "stage_index": 0, "epochs": 3}
    batches = training_batches(prepared, **(defaults | arguments))
    for batch in with_options(batches).as_numpy_iterator():
        assert batch["step"] == len(found[batch["epoch"]])
        numbers = batch["input"][:, 0, 0, 0].tolist()
        assert batch["label"].tolist() == [number % 3 for number in numbers]
        assert (batch["input"][..., 1] == 200).all()
        found[int(batch["epoch"])].append(numbers)
    return dict(found)


def test_every_epoch_holds_every_example_once_with_an_uneven_last_batch(prepared):
    orders = _orders(prepared)
    assert sorted(orders) == [0, 1, 2]
    for batches in orders.values():
        assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
        assert sorted(np.concatenate(batches)) == list(range(COUNT))


def test_batches_have_the_promised_types_and_shapes(prepared):
    assert training_batches(prepared, 5, 0, 0, epochs=1).element_spec == {
        "input": tf.TensorSpec([None, 4, 4, 3], tf.uint8),
        "label": tf.TensorSpec([None], tf.int32),
        "index": tf.TensorSpec([None], tf.int64),
        "epoch": tf.TensorSpec([], tf.int64),
        "step": tf.TensorSpec([], tf.int64),
    }


def test_order_differs_by_epoch_stage_and_seed(prepared):
    orders = _orders(prepared)
    others = [
        orders[1],
        orders[2],
        _orders(prepared, stage_index=1)[0],
        _orders(prepared, seed=1)[0],
        [list(range(COUNT))[start : start + 5] for start in range(0, COUNT, 5)],
    ]
    assert all(other != orders[0] for other in others)


def test_order_depends_on_nothing_but_seed_stage_and_epoch(prepared):
    first = _orders(prepared)
    keras.utils.set_random_seed(99)  # The global seed of the process must not matter,
    assert _orders(prepared) == first
    later = _orders(prepared, first_epoch=2, epochs=1)  # nor the epochs before it.
    assert later == {2: first[2]}


def test_without_a_number_of_epochs_there_is_no_end(prepared):
    batches = training_batches(prepared, 5, 0, 0)
    last = next(batches.skip(5 * 40).as_numpy_iterator())
    assert (last["epoch"], last["step"]) == (40, 0)


def test_ordered_batches_come_in_stored_order_and_cover_everything(prepared):
    batches = list(ordered_batches(prepared, 5).as_numpy_iterator())
    assert [len(batch["label"]) for batch in batches] == [5, 5, 5, 5, 3]
    numbers = np.concatenate([batch["input"][:, 0, 0, 0] for batch in batches])
    assert numbers.tolist() == list(range(COUNT))
    labels = np.concatenate([batch["label"] for batch in batches])
    assert labels.tolist() == (numbers % 3).tolist()
    assert labels.dtype == np.int32


def test_some_of_the_examples_can_be_had_in_stored_order(prepared):
    wanted = np.array([1, 2, 3, 5, 8, 13, 21])
    batches = list(ordered_batches(prepared, 5, wanted).as_numpy_iterator())
    assert [len(batch["label"]) for batch in batches] == [5, 2]
    for name, values in (("index", wanted), ("label", wanted % 3)):
        assert np.concatenate([batch[name] for batch in batches]).tolist() == values.tolist()
    numbers = np.concatenate([batch["input"][:, 0, 0, 0] for batch in batches])
    assert numbers.tolist() == wanted.tolist()


def test_a_subset_is_those_examples_and_nothing_else(prepared):
    chosen = np.array([2, 3, 5, 7, 11, 13, 17, 19])
    subset = prepared.subset(chosen).subset(np.array([1, 2, 4, 7]))
    kept = [3, 5, 11, 19]
    assert subset.examples.ids == tuple(prepared.examples.ids[i] for i in kept)
    assert (subset.digests == prepared.digests[kept]).all()
    (batch,) = ordered_batches(subset, 5).as_numpy_iterator()
    assert batch["input"][:, 0, 0, 0].tolist() == kept
    assert batch["index"].tolist() == [0, 1, 2, 3]
    assert batch["label"].tolist() == [i % 3 for i in kept]
    found = [batch["index"] for batch in training_batches(subset, 3, 0, 0, 1).as_numpy_iterator()]
    assert sorted(np.concatenate(found)) == [0, 1, 2, 3]


def test_memory_and_stream_agree_on_the_order_of_every_epoch():
    pair = (np.arange(COUNT, dtype=np.uint8).reshape(-1, 1, 1).repeat(2, 1), np.arange(COUNT) % 3)
    splits = open_data(Data(source=Arrays(train=pair, validation=pair, test=pair)), seed=0)
    held, streamed = (
        prepare_images({"train": splits.train}, (2, 2), "stretch", share, lambda *_: None)["train"]
        for share in (0.25, 0.0)
    )
    for one, other in zip(
        training_batches(held, 5, 0, 0, epochs=2),
        training_batches(streamed, 5, 0, 0, epochs=2),
        strict=True,
    ):
        assert (one["input"].numpy() == other["input"].numpy()).all()


def test_options_turn_autotuning_off_and_set_determinism():
    for deterministic in (True, False):
        options = with_options(tf.data.Dataset.range(3), deterministic).options()
        assert options.autotune.enabled is False
        assert options.deterministic is deterministic
