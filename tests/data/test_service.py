"""What a tf.data service reads is what this process would have read, in the same order."""

import contextlib
import dataclasses
import random
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.data.experimental import service as tf_service
from test_resume import PLANS, assert_same, trained

from sft_keras import Arrays, Backbone, Data, Recipe, Stage
from sft_keras.core.errors import DataServiceError, RecipeError, UnreadableError
from sft_keras.data.batches import ordered_batches, training_batches
from sft_keras.data.service import dispatcher
from sft_keras.data.service.client import DataService, explain_service_failure
from sft_keras.data.service.numbered_batches import NumberedBatches
from sft_keras.data.service.preflight import require_identical_reads
from sft_keras.data.service.reorder import MAX_EARLY, reorder
from sft_keras.tasks import Augment, ImageClassification, TextClassification
from sft_keras.tasks.base import build_task
from sft_keras.vision.preprocess import prepare_images
from sft_keras.vision.sources.open import open_data

SIZE = (8, 8)
BATCH = 5
STEPS = 5  # an epoch; the last has fewer examples
AUGMENT = Augment(flip=True, rotation=0.1, zoom=0.1, mixup=0.3)


@contextlib.contextmanager
def served_by(workers):
    """The address of a service with so many workers in this process, and those."""
    server = tf_service.DispatchServer(tf_service.DispatcherConfig(port=0))
    target = server.target.removeprefix("grpc://")
    started = [
        tf_service.WorkerServer(tf_service.WorkerConfig(dispatcher_address=target))
        for _ in range(workers)
    ]
    try:
        yield server.target, started
    finally:
        for each in started:
            each.stop()
        server.stop()


@pytest.fixture(scope="module")
def address():
    with served_by(2) as (found, _):
        yield found


@pytest.fixture(scope="module")
def splits(tmp_path_factory, write_folders):
    sizes = {"train/a": 12, "train/b": 11, "val/a": 3, "val/b": 4, "test/a": 3, "test/b": 2}
    folder = write_folders(tmp_path_factory.mktemp("pictures"), sizes)
    return open_data(Data(source=f"folder:{folder}"), seed=0)


@pytest.fixture(scope="module")
def plan():
    return Recipe(
        task=ImageClassification(augment=AUGMENT),
        data=Data(source="folder:pictures", batch_size=BATCH),
        backbone=Backbone(preset="keras:vgg16", image_size=SIZE),
        stages=(
            Stage(name="head", epochs=2, learning_rate=1e-3),
            Stage(name="top", epochs=2, learning_rate=1e-3, unfreeze=1),
        ),
    )


def prepared(splits):
    return prepare_images(splits.by_name(), SIZE, "crop", 0.0, lambda done, total: None)


@pytest.fixture(scope="module")
def here(splits):
    return prepared(splits)["train"]


def read_by(service, here):
    """A split that a service reads."""
    return dataclasses.replace(here, examples=dataclasses.replace(here.examples, service=service))


def assert_same_batches(found, expected):
    for one, other in zip(found, expected, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


# The same, in order


def assert_same_training(here, there, plan, info, taken):
    task = dataclasses.replace(plan.task, augment=AUGMENT)
    batches = build_task(dataclasses.replace(plan, task=task), info).batches
    found, expected = (batches.training(each, plan.stages[1], skip=taken) for each in (there, here))
    assert_same_batches(found.take(2 * STEPS), expected.take(2 * STEPS))


@pytest.mark.parametrize(
    "taken",
    [
        pytest.param(0, marks=pytest.mark.slow),
        2 * STEPS + 3,  # within the third epoch, as a resumed run goes on
    ],
)
def test_training_batches_are_those_of_a_run_without_it_bit_for_bit(
    address, here, splits, plan, taken
):
    there = read_by(DataService(address), here)
    assert_same_training(here, there, plan, splits.info, taken)


@pytest.mark.slow
@pytest.mark.nightly
def test_one_worker_gives_the_same_as_two(here, splits, plan):
    with served_by(1) as (address, _):
        there = read_by(DataService(address), here)
        assert_same_training(here, there, plan, splits.info, 3)


@pytest.mark.slow
def test_ordered_batches_are_those_of_a_run_without_it(address, here):
    there = read_by(DataService(address), here)
    found, expected = (ordered_batches(each, BATCH) for each in (there, here))
    assert found.element_spec == expected.element_spec
    for _ in range(2):  # as after another epoch
        assert_same_batches(found, expected)
    some = np.array([1, 2, 3, 5, 8, 13, 21])
    assert_same_batches(ordered_batches(there, BATCH, some), ordered_batches(here, BATCH, some))


def test_epochs_are_numbered_and_end(address, here):
    there = read_by(DataService(address), here)
    batches = training_batches(there, BATCH, 7, 1, epochs=1, first_epoch=3, first_step=3)
    places = [(int(each["epoch"]), int(each["step"])) for each in batches]
    assert places == [(3, 3), (3, 4)]


@pytest.mark.slow
def test_preparing_finds_what_it_finds_without_it(address, splits):
    service = DataService(address)
    found, expected = (prepared(each) for each in (service.reading(splits), splits))
    for name, split in expected.items():
        np.testing.assert_array_equal(found[name].digests, split.digests)


@pytest.mark.nightly
@pytest.mark.slow
def test_preparing_names_the_files_it_names_without_it(address, tmp_path, write_folders):
    service = DataService(address)
    folder = write_folders(tmp_path, {"train/a": 18, "train/b": 3, "val/a": 1, "test/b": 1})
    for damaged in ("train/a/005.png", "train/b/000.png"):
        (folder / damaged).write_bytes(b"nothing")
    broken = open_data(Data(source=f"folder:{folder}"), seed=0)
    said = []
    for each in (broken, service.reading(broken)):
        with pytest.raises(UnreadableError) as raised:
            prepared(each)
        said.append(str(raised.value))
    assert said[0] == said[1]
    assert "train/a/005.png" in said[0] and "train/b/000.png" in said[0]


@pytest.mark.slow
@pytest.mark.nightly
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(address, splits, build_staged, tmp_path):
    plan = PLANS["augmented"]
    pictures = prepare_images(splits.by_name(), (16, 16), "crop", 0.0, lambda done, total: None)
    del pictures["test"]
    service = DataService(address)
    there = {name: read_by(service, split) for name, split in pictures.items()}
    whole = trained(build_staged, pictures, plan, tmp_path / "whole")
    for steps in (4, 3):  # within the second epoch; and within another
        assert trained(build_staged, there, plan, tmp_path / "stopped", steps) is None
    assert_same(trained(build_staged, there, plan, tmp_path / "stopped"), whole)


class Coming:
    """Numbers in a given order; an exception is raised in its turn."""

    def __init__(self, coming):
        self.left, self.is_closed = iter(coming), False

    def next(self, timeout):
        found = next(self.left, tf.errors.OutOfRangeError(None, None, "none"))
        if isinstance(found, Exception):
            raise found
        return {"number": np.int64(found)}

    def close(self):
        self.is_closed = True


SILENCE = tf.errors.DeadlineExceededError(None, None, "late")


def put_in_order(*jobs, first=0, end=None):
    """What comes of jobs that are begun one after the other, and from where each was begun."""
    begun, closed = [], [Coming(job) for job in jobs]

    def begin(number):
        begun.append(number)
        return closed[len(begun) - 1]

    found = []
    try:
        for number, element in reorder(begin, first, end, timeout=1.0):
            assert element is None or element["number"] == number
            found.append((number, element is not None))
    finally:
        assert all(each.is_closed for each in closed[: len(begun)])
    return found, begun


def test_any_order_is_put_right():
    draw = random.Random(0)
    for count in (1, 2, 40):
        numbers = list(range(5, 5 + count))
        shuffled = draw.sample(numbers, count)
        found, _ = put_in_order(shuffled, first=5, end=5 + count)
        assert found == [(number, True) for number in numbers]


def test_what_never_comes_is_left_to_be_read():
    # The others are over,
    found, _ = put_in_order([0, 1, 3], end=5)
    assert [number for number, came in found if not came] == [2, 4]
    # or there are too many of them to be held; what comes late is dropped.
    numbers = [*range(1, 2 * MAX_EARLY), 0, *range(2 * MAX_EARLY, 3 * MAX_EARLY)]
    found, _ = put_in_order(numbers, end=3 * MAX_EARLY)
    assert [number for number, came in found if not came] == [0]
    assert len(found) == 3 * MAX_EARLY


def test_silence_is_asked_about_once():
    found, begun = put_in_order([1, 0, 3, SILENCE], [2, 3, 4], end=5)
    assert found == [(number, True) for number in range(5)] and begun == [0, 2]
    found, begun = put_in_order([0, SILENCE], [1, SILENCE], [2], end=3)  # not in a row
    assert found == [(number, True) for number in range(3)] and begun == [0, 1, 2]
    with pytest.raises(tf.errors.DeadlineExceededError):
        put_in_order([0, SILENCE], [SILENCE], end=5)


# Workers that die, or see something else


@pytest.mark.slow
def test_the_batches_of_a_dead_worker_are_not_lost(here):
    with served_by(2) as (address, workers):
        there = read_by(DataService(address, timeout=4.0), here)
        numbered = training_batches(there, 1, 0, 0, epochs=6).enumerate()
        expected = training_batches(here, 1, 0, 0, epochs=6)
        for (number, found), wanted in zip(numbered, expected, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, found, wanted)
            if number == 3:
                workers[0].stop()


@pytest.mark.slow
def test_a_service_that_has_died_is_said(here):
    with served_by(1) as (address, workers):
        service = DataService(address, timeout=5.0)
        with (
            pytest.raises(DataServiceError, match=r"nothing from grpc://.* for 5 s.*--resume"),
            explain_service_failure(service),
        ):
            for number, _ in enumerate(training_batches(read_by(service, here), 1, 0, 0)):
                if number == 3:
                    workers[0].stop()


@pytest.fixture(scope="module")
def numbered(here):
    return NumberedBatches.in_stored_order(here.examples, here.read, BATCH)


def moved(numbered, place):
    """The batches, of which one file is where nobody finds it."""
    paths = list(numbered.examples.paths)
    paths[place] = "/elsewhere/000.png"
    examples = dataclasses.replace(numbered.examples, paths=tuple(paths))
    return dataclasses.replace(numbered, examples=examples)


@pytest.mark.slow
def test_all_workers_are_tried_before_the_start(address, numbered, monkeypatch):
    service = DataService(address)
    assert require_identical_reads(service, numbered) == 2
    expected = numbered.read_here(0)
    four = {**expected, "index": expected["index"][:4], "input": expected["input"][:4]}
    monkeypatch.setattr(NumberedBatches, "read_here", lambda self, number: four)
    with pytest.raises(DataServiceError, match=r"could not read '/elsewhere/000.png'.*same disk"):
        require_identical_reads(service, moved(numbered, 0))
    four["input"] = four["input"] + 1
    with pytest.raises(DataServiceError, match=r"different pixels .* from 2 of 2 workers"):
        require_identical_reads(service, numbered)


@pytest.mark.slow
def test_a_file_that_a_worker_does_not_see_is_an_error_in_training(address, numbered):
    service = DataService(address)
    with (
        pytest.raises(DataServiceError, match=r"could not read '/elsewhere/000.png'"),
        explain_service_failure(service),
    ):
        list(service.batches(moved(numbered, 7), 0, numbered.steps))
    found = list(service.batches(moved(numbered, 7), 0, numbered.steps, require_all=False))
    assert [len(each["index"]) for each in found] == [5, 4, 5, 5, 3]


# What is refused before the start


@pytest.mark.parametrize(
    "given",
    ["localhost:5000", "http://localhost:5000", "grpc://localhost", "grpc://a:0", "grpc://"],
)
def test_a_malformed_address_is_refused(given, plan):
    with pytest.raises(RecipeError, match="must be grpc://HOST:PORT"):
        dispatcher.require_data_service(given, plan)


def test_data_that_workers_cannot_read_is_refused(plan):
    images = (np.zeros((4, 8, 8, 3), np.uint8), [0, 1, 0, 1])
    for source in ("tfds:tf_flowers", "digits", Arrays(train=images)):
        given = dataclasses.replace(plan, data=Data(source=source))
        with pytest.raises(RecipeError, match="ImageClassification: folder: or csv:"):
            dispatcher.require_data_service("grpc://localhost:9", given)
    texts = dataclasses.replace(
        plan,
        task=TextClassification(),
        data=Data(source="csv:a.csv"),
        backbone=Backbone(preset="hub:a"),
    )
    with pytest.raises(RecipeError, match="texts are read only once"):
        dispatcher.require_data_service("grpc://localhost:9", texts)


def test_a_dispatcher_that_is_not_there_is_said_at_once(plan, monkeypatch):
    monkeypatch.setattr(dispatcher, "RPC_TIMEOUT", 1.0)
    with socket.socket() as other:  # listens, and says nothing
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        for _ in range(2):
            with pytest.raises(DataServiceError, match=f"no response from grpc://127.0.0.1:{port}"):
                dispatcher.require_data_service(f"grpc://127.0.0.1:{port}", plan)
            other.listen()


def test_a_dispatcher_without_workers_is_said(plan, monkeypatch):
    monkeypatch.setattr(dispatcher, "WORKER_TIMEOUT", 0.1)
    with served_by(0) as (address, _), pytest.raises(DataServiceError, match="none at"):
        dispatcher.require_data_service(address, plan)
    with served_by(1) as (address, _):
        dispatcher.require_data_service(address, plan)


# The commands


def started(*arguments):
    command = [sys.executable, "-m", "sft_keras.data_service", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_commands_serve_until_they_are_stopped(here):
    with contextlib.ExitStack() as running:
        first = running.enter_context(started("--dispatcher", "--port=0"))
        running.callback(first.kill)
        port = first.stdout.readline().split()[1].rpartition(":")[2]
        workers = [started("--worker", f"--dispatcher_address=localhost:{port}") for _ in range(2)]
        for each in workers:
            running.enter_context(each)
            running.callback(each.kill)
            assert each.stdout.readline().startswith("worker  on ")
        there = read_by(DataService(f"grpc://localhost:{port}", timeout=5.0), here)
        batches = training_batches(there, 1, 0, 0, epochs=10).enumerate()
        for (number, found), wanted in zip(batches, training_batches(here, 1, 0, 0), strict=False):
            tf.nest.map_structure(np.testing.assert_array_equal, found, wanted)
            if number == 5:
                workers[0].send_signal(signal.SIGKILL)
        assert number == 10 * len(here.examples) - 1
        for each in (workers[1], first):
            each.send_signal(signal.SIGINT)
            assert each.communicate(timeout=30)[0] == "stopped\n"
            assert each.returncode == 0
