"""Dynamic batching: every request gets its own outputs, in its turn."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sft_keras.serving import batching
from sft_keras.serving.batching import DynamicBatcher


class Model:
    """Doubles numbers, rejects negative ones, and records its calls."""

    def __init__(self):
        self.go = threading.Event()
        self.calls, self.active, self.max_active = [], 0, 0
        self._lock = threading.Lock()

    def __call__(self, signature, arrays):
        with self._lock:
            self.calls.append((signature, arrays["x"].tolist()))
            self.active += 1
            self.max_active = max(self.max_active, self.active)
        self.go.wait(10)
        with self._lock:
            self.active -= 1
        if (arrays["x"] < 0).any():
            raise ValueError(f"negative: {arrays['x'].tolist()}")
        return {"y": 2 * arrays["x"]}


def queued(batcher, pool, model, requests, **options):
    """Occupy the only slot with one request, queue the others, and return their futures."""
    first = pool.submit(batcher.predict, "a", {"x": np.array([0])}, mergeable=True)
    while not model.calls:
        time.sleep(0.001)
    futures = []
    for number, (signature, values) in enumerate(requests, 1):
        futures.append(pool.submit(batcher.predict, signature, {"x": np.array(values)}, **options))
        while len(batcher._queue) < number:
            time.sleep(0.001)
    model.go.set()
    assert first.result(10)["y"].tolist() == [0]
    return futures


@pytest.fixture
def pool():
    with ThreadPoolExecutor(64) as opened:
        yield opened


def test_queued_requests_are_merged_and_split_again(pool):
    model = Model()
    requests = [("a", [1]), ("b", [7]), ("a", [2, 3]), ("a", [4])]
    futures = queued(DynamicBatcher(model, 1, 10), pool, model, requests, mergeable=True)
    assert [future.result(10)["y"].tolist() for future in futures] == [[2], [14], [4, 6], [8]]
    assert model.calls[1:] == [("a", [1, 2, 3, 4]), ("b", [7])]


def test_only_the_faulty_request_fails(pool):
    model = Model()
    requests = [("a", [number if number != 5 else -5]) for number in range(1, 9)]
    futures = queued(DynamicBatcher(model, 1, 10), pool, model, requests, mergeable=True)
    for number, future in enumerate(futures, 1):
        if number == 5:
            with pytest.raises(ValueError, match=r"negative: \[-5\]"):
                future.result(10)
        else:
            assert future.result(10)["y"].tolist() == [2 * number]
    assert len(model.calls) < 1 + len(requests)


def test_outputs_without_one_row_per_instance_are_not_split(pool):
    class Sums(Model):
        def __call__(self, signature, arrays):
            return {"y": super().__call__(signature, arrays)["y"].sum(keepdims=True)}

    model = Sums()
    requests = [("a", [1, 2]), ("a", [3, 4])]
    futures = queued(DynamicBatcher(model, 1, 10), pool, model, requests, mergeable=True)
    assert [future.result(10)["y"].tolist() for future in futures] == [[6], [14]]


def test_requests_that_do_not_merge_are_computed_in_turn(pool):
    model = Model()
    requests = [("a", [number]) for number in range(20)]
    futures = queued(DynamicBatcher(model, 1, 10), pool, model, requests, mergeable=False)
    assert [future.result(10)["y"].tolist() for future in futures] == [[2 * n] for n in range(20)]
    assert model.calls[1:] == requests


def test_batches_are_bounded_in_size_and_weight(pool, monkeypatch):
    monkeypatch.setattr(batching, "MAX_BATCH_INSTANCES", 4)
    model = Model()
    requests = [("a", [1, 1, 1]), ("a", [2, 2]), ("a", [3]), ("a", [4] * 9)]
    futures = queued(DynamicBatcher(model, 1, 10), pool, model, requests, mergeable=True)
    assert [len(future.result(10)["y"]) for future in futures] == [3, 2, 1, 9]
    assert [values for _, values in model.calls[1:]] == [[1, 1, 1, 3], [2, 2], [4] * 9]
    model = Model()
    futures = queued(
        DynamicBatcher(model, 1, 10), pool, model, requests[1:3] * 2, mergeable=True, weight=6
    )
    assert [len(future.result(10)["y"]) for future in futures] == [2, 1, 2, 1]
    assert len(model.calls) == 5


def test_slots_bound_the_concurrent_batches(pool):
    model = Model()
    batcher = DynamicBatcher(model, 3, 10)
    futures = [pool.submit(batcher.predict, "a", {"x": np.array([n])}) for n in range(64)]
    time.sleep(0.1)
    assert len(model.calls) == 3
    model.go.set()
    assert [future.result(10)["y"].tolist() for future in futures] == [[2 * n] for n in range(64)]
    assert model.max_active == 3
