"""Many requests at once to `python -m sft_keras.serve`, a share of them bad.

    python benchmarks/serving_load.py --run=runs/quickstart [--requests=5000] [--at_once=32]

Writes results/serving_load.json. The server is a process of its own; this one sends, and shares the
machine with it. Checked are the status of every answer, that each good one is the answer to its own
request, and that the server's memory does not grow in the second half. For comparison the exported
model's signature is called in a loop, in a process that does nothing else.
"""

from __future__ import annotations

import collections
import http.client
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from absl import app, flags
from serving_requests import KINDS, Sender, bad_requests, good_bodies, images, probabilities
from written import write_results

_RUN = flags.DEFINE_string("run", None, "The folder of a finished run.", required=True)
_REQUESTS = flags.DEFINE_integer("requests", 5000, "Good and bad ones.")
_AT_ONCE = flags.DEFINE_integer("at_once", 32, "Connections, each of which sends and waits.")
_BAD_EVERY = flags.DEFINE_integer("bad_every", 10, "One request in so many is bad.")
_BARE = flags.DEFINE_bool("bare", False, "Used by the program itself: call the signature.")

GROWTH = 0.05  # of the memory in the middle, that it may be more at the end
TOLERANCE = 1e-5  # of probabilities: threads of TensorFlow sum in another order
BARE_SECONDS = 10.0
BATCH = 32


def load(url: str, server: psutil.Process) -> dict[str, Any]:
    """Sends all requests and returns what came of them."""
    path = urllib.parse.urlsplit(url).path + ":predict"
    bodies, bad = good_bodies(), bad_requests(path)
    alone = Sender(url)
    expected = [probabilities(alone.ask(path, body)[1]) for body in bodies]
    one_by_one = [alone.ask(path, body)[2] for _ in range(5) for body in bodies]
    memory = {"before": server.memory_info().rss}
    numbers, lock = iter(range(_REQUESTS.value)), threading.Lock()
    statuses: collections.Counter[str] = collections.Counter()
    seconds: list[float] = []
    faults: list[str] = []

    def send() -> None:
        sender = Sender(url)
        while True:
            with lock:
                number = next(numbers, None)
                if number == _REQUESTS.value // 2:
                    memory["middle"] = server.memory_info().rss
            if number is None:
                return
            kind, is_bad = number % KINDS, number % _BAD_EVERY.value == 0
            where, body, wanted = path, bodies[kind], 200
            if is_bad:
                where, body, wanted = bad[number // _BAD_EVERY.value % len(bad)]
            try:
                status, answer, took = sender.ask(where, body)
            except (OSError, http.client.HTTPException) as error:
                sender = Sender(url)
                with lock:
                    statuses["lost"] += 1
                    faults.append(f"request {number}: {error!r}")
                continue
            fault = None
            if status != wanted:
                fault = f"request {number}: {status} where {wanted} was expected: {answer[:200]!r}"
            elif status != 200 and set(json.loads(answer)) != {"error"}:
                fault = f"request {number}: an error of another form: {answer[:200]!r}"
            elif status == 200:
                off = np.abs(probabilities(answer) - expected[kind]).max()
                fault = None if off <= TOLERANCE else f"request {number}: off by {off}"
            with lock:
                statuses[str(status)] += 1
                if status == 200:
                    seconds.append(took)
                if fault:
                    faults.append(fault)

    threads = [threading.Thread(target=send) for _ in range(_AT_ONCE.value)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    memory["end"] = server.memory_info().rss
    return {
        "answers": dict(sorted(statuses.items())),
        "faults": faults,
        "seconds": took,
        "requests_per_second": sum(statuses.values()) / took,
        "good_per_second": len(seconds) / took,
        "good_milliseconds": percentiles(seconds),
        "one_by_one_milliseconds": percentiles(one_by_one),
        "memory_bytes": memory,
        "growth_in_second_half": memory["end"] / memory["middle"] - 1,
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Returns the median and the 99th percentile, in milliseconds."""
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    return {"p50": p50, "p99": p99}


def bare() -> dict[str, Any]:
    """Calls the signature of the exported model: alone, by two threads, and with whole batches."""
    import tensorflow as tf

    from sft_keras.export.paths import load_exported
    from sft_keras.runs.environment import environment

    signature = load_exported(_RUN.value).signatures["serving_default"]
    files = images()

    def calls(batch: int) -> list[float]:
        given = itertools.cycle([tf.constant((files * 2)[n : n + batch]) for n in range(KINDS)])
        for _ in range(5):
            signature(image_bytes=next(given))
        found, until = [], time.perf_counter() + BARE_SECONDS
        while (began := time.perf_counter()) < until:
            signature(image_bytes=next(given))["probabilities"].numpy()
            found.append(time.perf_counter() - began)
        return found

    alone, batches = calls(1), calls(min(BATCH, KINDS))
    by_thread: list[list[float]] = []
    threads = [threading.Thread(target=lambda: by_thread.append(calls(1))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "milliseconds": percentiles(alone),
        "per_second": len(alone) / sum(alone),
        "two_threads_per_second": sum(len(each) / sum(each) for each in by_thread),
        "batch": min(BATCH, KINDS),
        "in_batches_per_second": min(BATCH, KINDS) * len(batches) / sum(batches),
        "environment": environment(),
    }


def served() -> dict[str, Any]:
    """Starts the server, loads it and stops it; returns what came of it."""
    command = [sys.executable, "-m", "sft_keras.serve", f"--run={_RUN.value}", "--port=0"]
    began = time.perf_counter()
    with subprocess.Popen(
        [*command, "--nolog_requests"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            words = process.stdout.readline().split()
            if not words:
                sys.exit("The server did not start; see above.")
            started = time.perf_counter() - began
            found = load(words[1], psutil.Process(process.pid))
            process.send_signal(signal.SIGINT)
            process.wait(60)
        finally:
            process.kill()
    return {**found, "seconds_to_start": started, "exit_status": process.returncode}


def faults_of(found: Mapping[str, Any]) -> list[str]:
    """Returns what is not as it must be."""
    faults = list(found["faults"])
    if sum(found["answers"].values()) != _REQUESTS.value:
        faults.append(f"{_REQUESTS.value} requests, but {found['answers']}")
    if found["growth_in_second_half"] > GROWTH:
        faults.append(f"memory grew: {found['memory_bytes']}")
    if found["exit_status"] != 0:
        faults.append(f"the server ended with {found['exit_status']}")
    return faults


def main(_: list[str]) -> None:
    """Runs both sides and writes the figures; exits with 1 if something is not as it must be."""
    if _BARE.value:
        print(json.dumps(bare()))
        return
    child = [sys.executable, __file__, f"--run={_RUN.value}", "--bare"]
    ended = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
    alone = json.loads(ended.stdout.splitlines()[-1])
    environment = alone.pop("environment")
    found = served()
    faults = faults_of(found)
    figures = {
        "run": Path(_RUN.value).name,
        "requests": _REQUESTS.value,
        "at_once": _AT_ONCE.value,
        "bad_every": _BAD_EVERY.value,
        "met": not faults,
        "served": {**found, "faults": faults},
        "bare": alone,
    }
    command = "python benchmarks/serving_load.py --run=..."
    write_results("serving_load", command, figures, environment)
    print(json.dumps(figures, indent=2))
    if faults:
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
