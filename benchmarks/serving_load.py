"""Load test of `python -m sft_keras.serve` with concurrent requests, some of them invalid.

    python benchmarks/serving_load.py --run=runs/quickstart [--requests=5000] [--at_once=32]

Writes results/serving_load.json. The server runs in its own process and shares the machine with
this client. The test verifies the status of every response, that each successful response belongs
to its request, and that the server's memory does not grow in the second half. As a baseline, the
exported model's signature is called in a loop in a process that does nothing else.
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
from results_file import write_results
from serving_requests import KINDS, Client, images, invalid_requests, probabilities, valid_bodies

_RUN = flags.DEFINE_string("run", None, "Folder of a finished run.", required=True)
_REQUESTS = flags.DEFINE_integer("requests", 5000, "Number of requests, valid and invalid.")
_AT_ONCE = flags.DEFINE_integer(
    "at_once", 32, "Concurrent connections; each sends one request at a time."
)
_BAD_EVERY = flags.DEFINE_integer("bad_every", 10, "Every n-th request is invalid.")
_BARE = flags.DEFINE_bool("bare", False, "Internal: only time the signature.")

MAX_GROWTH = 0.05  # of the server's memory in the second half, relative
TOLERANCE = 1e-5  # of probabilities: the order of sums in TensorFlow's threads varies
BARE_SECONDS = 10.0
BATCH = 32


def load(url: str, server: psutil.Process) -> dict[str, Any]:
    """Send all requests and return the responses' statuses, faults, latencies and memory use."""
    path = urllib.parse.urlsplit(url).path + ":predict"
    bodies, invalid = valid_bodies(), invalid_requests(path)
    client = Client(url)
    expected = [probabilities(client.post(path, body)[1]) for body in bodies]
    one_by_one = [client.post(path, body)[2] for _ in range(5) for body in bodies]
    memory = {"before": server.memory_info().rss}
    numbers, lock = iter(range(_REQUESTS.value)), threading.Lock()
    statuses: collections.Counter[str] = collections.Counter()
    seconds: list[float] = []
    faults: list[str] = []

    def send() -> None:
        client = Client(url)
        while True:
            with lock:
                number = next(numbers, None)
                if number == _REQUESTS.value // 2:
                    memory["middle"] = server.memory_info().rss
            if number is None:
                return
            kind = number % KINDS
            target, body, expected_status = path, bodies[kind], 200
            if number % _BAD_EVERY.value == 0:
                index = number // _BAD_EVERY.value % len(invalid)
                target, body, expected_status = invalid[index]
            try:
                status, response, latency = client.post(target, body)
            except (OSError, http.client.HTTPException) as error:
                client = Client(url)
                with lock:
                    statuses["lost"] += 1
                    faults.append(f"request {number}: {error!r}")
                continue
            fault = None
            if status != expected_status:
                fault = f"status must be {expected_status}. Received: {status}, {response[:200]!r}"
            elif status != 200 and set(json.loads(response)) != {"error"}:
                fault = f"an error must have the form {{'error': ...}}: {response[:200]!r}"
            elif status == 200:
                difference = np.abs(probabilities(response) - expected[kind]).max()
                fault = f"wrong by {difference}" if difference > TOLERANCE else None
            with lock:
                statuses[str(status)] += 1
                if status == 200:
                    seconds.append(latency)
                if fault:
                    faults.append(f"request {number}: {fault}")

    threads = [threading.Thread(target=send) for _ in range(_AT_ONCE.value)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    memory["end"] = server.memory_info().rss
    return {
        "answers": dict(sorted(statuses.items())),
        "faults": faults,
        "seconds": elapsed,
        "requests_per_second": sum(statuses.values()) / elapsed,
        "good_per_second": len(seconds) / elapsed,
        "good_milliseconds": percentiles(seconds),
        "one_by_one_milliseconds": percentiles(one_by_one),
        "memory_bytes": memory,
        "growth_in_second_half": memory["end"] / memory["middle"] - 1,
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds."""
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    return {"p50": p50, "p99": p99}


def time_signature() -> dict[str, Any]:
    """Time the exported signature: on single images, from two threads, and on batches."""
    import tensorflow as tf

    from sft_keras.export.paths import load_exported
    from sft_keras.runs.environment import environment

    signature = load_exported(_RUN.value).signatures["serving_default"]
    files = images()

    def time_calls(batch: int) -> list[float]:
        inputs = itertools.cycle([tf.constant((files * 2)[n : n + batch]) for n in range(KINDS)])
        for _ in range(5):
            signature(image_bytes=next(inputs))
        seconds, end = [], time.perf_counter() + BARE_SECONDS
        while (start := time.perf_counter()) < end:
            signature(image_bytes=next(inputs))["probabilities"].numpy()
            seconds.append(time.perf_counter() - start)
        return seconds

    single, batches = time_calls(1), time_calls(min(BATCH, KINDS))
    by_thread: list[list[float]] = []
    threads = [threading.Thread(target=lambda: by_thread.append(time_calls(1))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "milliseconds": percentiles(single),
        "per_second": len(single) / sum(single),
        "two_threads_per_second": sum(len(calls) / sum(calls) for calls in by_thread),
        "batch": min(BATCH, KINDS),
        "in_batches_per_second": min(BATCH, KINDS) * len(batches) / sum(batches),
        "environment": environment(),
    }


def measure_server() -> dict[str, Any]:
    """Start the server, send it all requests and stop it; return the measurements."""
    command = [sys.executable, "-m", "sft_keras.serve", f"--run={_RUN.value}", "--port=0"]
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, "--nolog_requests"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            startup_line = process.stdout.readline().split()
            if not startup_line:
                sys.exit("The server did not start. Its output is above.")
            seconds_to_start = time.perf_counter() - start
            outcome = load(startup_line[1], psutil.Process(process.pid))
            process.send_signal(signal.SIGINT)
            process.wait(60)
        finally:
            process.kill()
    return {**outcome, "seconds_to_start": seconds_to_start, "exit_status": process.returncode}


def find_faults(outcome: Mapping[str, Any]) -> list[str]:
    """Return all faults of a load test: wrong responses, lost requests, memory growth, exit."""
    faults = list(outcome["faults"])
    if sum(outcome["answers"].values()) != _REQUESTS.value:
        faults.append(f"{_REQUESTS.value} requests, but {outcome['answers']}")
    if outcome["growth_in_second_half"] > MAX_GROWTH:
        faults.append(f"memory grew: {outcome['memory_bytes']}")
    if outcome["exit_status"] != 0:
        faults.append(f"the server's exit status is {outcome['exit_status']}")
    return faults


def main(_: list[str]) -> None:
    """Measure both and write the results; exit with status 1 if there are faults."""
    if _BARE.value:
        print(json.dumps(time_signature()))
        return
    child = [sys.executable, __file__, f"--run={_RUN.value}", "--bare"]
    finished = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
    bare = json.loads(finished.stdout.splitlines()[-1])
    environment = bare.pop("environment")
    outcome = measure_server()
    faults = find_faults(outcome)
    results = {
        "run": Path(_RUN.value).name,
        "requests": _REQUESTS.value,
        "at_once": _AT_ONCE.value,
        "bad_every": _BAD_EVERY.value,
        "met": not faults,
        "served": {**outcome, "faults": faults},
        "bare": bare,
    }
    command = "python benchmarks/serving_load.py --run=..."
    write_results("serving_load", command, results, environment)
    print(json.dumps(results, indent=2))
    if faults:
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
