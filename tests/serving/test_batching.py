"""Requests that are computed together: each gets its own answer, in its turn."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sft_keras.serving import batching
from sft_keras.serving.batching import Batching


class Model:
    """Doubles numbers, refuses negative ones, and keeps what it was asked."""

    def __init__(self):
        self.go = threading.Event()
        self.asked, self.inside, self.most = [], 0, 0
        self._lock = threading.Lock()

    def __call__(self, signature, arrays):
        with self._lock:
            self.asked.append((signature, arrays["x"].tolist()))
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.go.wait(10)
        with self._lock:
            self.inside -= 1
        if (arrays["x"] < 0).any():
            raise ValueError(f"negative: {arrays['x'].tolist()}")
        return {"y": 2 * arrays["x"]}


def waiting(batches, pool, model, requests, **how):
    """Sends one request that holds the only slot, then the others; returns their futures."""
    first = pool.submit(batches.ask, "a", {"x": np.array([0])}, merges=True)
    while not model.asked:
        time.sleep(0.001)
    futures = []
    for number, (signature, values) in enumerate(requests, 1):
        futures.append(pool.submit(batches.ask, signature, {"x": np.array(values)}, **how))
        while len(batches._queue) < number:
            time.sleep(0.001)
    model.go.set()
    assert first.result(10)["y"].tolist() == [0]
    return futures


@pytest.fixture
def pool():
    with ThreadPoolExecutor(64) as opened:
        yield opened


def test_what_waits_is_computed_together_and_each_gets_its_own_rows(pool):
    model = Model()
    requests = [("a", [1]), ("b", [7]), ("a", [2, 3]), ("a", [4])]
    found = waiting(Batching(model, 1, 10), pool, model, requests, merges=True)
    assert [each.result(10)["y"].tolist() for each in found] == [[2], [14], [4, 6], [8]]
    assert model.asked[1:] == [("a", [1, 2, 3, 4]), ("b", [7])]


def test_a_bad_one_fails_alone(pool):
    model = Model()
    requests = [("a", [number if number != 5 else -5]) for number in range(1, 9)]
    found = waiting(Batching(model, 1, 10), pool, model, requests, merges=True)
    for number, each in enumerate(found, 1):
        if number == 5:
            with pytest.raises(ValueError, match=r"negative: \[-5\]"):
                each.result(10)
        else:
            assert each.result(10)["y"].tolist() == [2 * number]
    assert len(model.asked) < 1 + len(requests)


def test_outputs_without_a_row_for_each_instance_are_not_cut_up(pool):
    class Sums(Model):
        def __call__(self, signature, arrays):
            return {"y": super().__call__(signature, arrays)["y"].sum(keepdims=True)}

    model = Sums()
    requests = [("a", [1, 2]), ("a", [3, 4])]
    found = waiting(Batching(model, 1, 10), pool, model, requests, merges=True)
    assert [each.result(10)["y"].tolist() for each in found] == [[6], [14]]


def test_what_does_not_merge_is_computed_by_itself_and_in_turn(pool):
    model = Model()
    requests = [("a", [number]) for number in range(20)]
    found = waiting(Batching(model, 1, 10), pool, model, requests, merges=False)
    assert [each.result(10)["y"].tolist() for each in found] == [[2 * n] for n in range(20)]
    assert model.asked[1:] == requests


def test_a_batch_has_its_bounds(pool, monkeypatch):
    monkeypatch.setattr(batching, "INSTANCES", 4)
    model = Model()
    requests = [("a", [1, 1, 1]), ("a", [2, 2]), ("a", [3]), ("a", [4] * 9)]
    found = waiting(Batching(model, 1, 10), pool, model, requests, merges=True)
    assert [len(each.result(10)["y"]) for each in found] == [3, 2, 1, 9]
    assert [values for _, values in model.asked[1:]] == [[1, 1, 1, 3], [2, 2], [4] * 9]
    model = Model()
    found = waiting(Batching(model, 1, 10), pool, model, requests[1:3] * 2, merges=True, weight=6)
    assert [len(each.result(10)["y"]) for each in found] == [2, 1, 2, 1]
    assert len(model.asked) == 5


def test_no_more_compute_at_a_time_than_there_are_slots(pool):
    model = Model()
    batches = Batching(model, 3, 10)
    found = [pool.submit(batches.ask, "a", {"x": np.array([n])}) for n in range(64)]
    time.sleep(0.1)
    assert len(model.asked) == 3
    model.go.set()
    assert [each.result(10)["y"].tolist() for each in found] == [[2 * n] for n in range(64)]
    assert model.most == 3
