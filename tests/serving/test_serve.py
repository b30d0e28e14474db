"""The serve command, in a process of its own."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

COMMAND = (sys.executable, "-m", "sft_keras.serve")


def serve(*flags):
    return subprocess.run(
        [*COMMAND, *flags], capture_output=True, text=True, check=False, timeout=60
    )


def test_errors_are_reported_before_tensorflow_is_imported(run_folder, tmp_path):
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = {
            "Say which run": [],
            "has no export/1/saved_model.pb": [f"--run={tmp_path}"],
            "Pass --name": [f"--run={run_folder}"],
            f"{port}: Address already in use": [
                *(f"--run={run_folder}", "--name=x", f"--port={port}"),
            ],
        }
        for reason, flags in cases.items():
            ran = serve(*flags)
            assert ran.returncode == 2 and reason in ran.stderr, ran.stderr
            assert "Traceback" not in ran.stderr and "cudart" not in ran.stderr


def test_missing_package_is_one_message(run_folder, tmp_path):
    code = (
        "import importlib.util, sys; find = importlib.util.find_spec;"
        "importlib.util.find_spec = lambda name: None if name == 'uvicorn' else find(name);"
        "from sft_keras import serve; from sft_keras.cli.command import run_command;"
        f"sys.argv = ['serve', '--run={run_folder}']; run_command(serve.main)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 2
    assert "needs uvicorn: pip install 'sft_keras[serve]'" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.slow
def test_32_concurrent_requests_and_a_clean_shutdown(image_run, encoded_images):
    pytest.importorskip("uvicorn")
    with subprocess.Popen(
        [*COMMAND, f"--run={image_run.run_dir}", "--port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    ) as process:
        try:
            url = process.stdout.readline().split()[1]
            assert url.startswith("http://127.0.0.1:")
            good = [{"b64": base64.b64encode(each).decode()} for each in encoded_images]
            bodies = [{"instances": good[: 1 + number % 6]} for number in range(96)]
            for number in range(0, 96, 4):
                bodies[number] = {"instances": ["not base64"]}

            def ask(body):
                request = urllib.request.Request(url + ":predict", json.dumps(body).encode())
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        return answer.status, json.load(answer)
                except urllib.error.HTTPError as error:
                    return error.code, json.load(error)

            with ThreadPoolExecutor(32) as pool:
                answers = list(pool.map(ask, bodies))
            alone = ask({"instances": good})[1]["predictions"]
            for number, (status, answer) in enumerate(answers):
                if number % 4 == 0:
                    assert status == 400 and "'instances'[0]" in answer["error"]
                else:
                    rows = answer["predictions"]
                    assert status == 200 and len(rows) == 1 + number % 6
                    for row, expected in zip(rows, alone):  # its own answer, and no other's
                        assert row["probabilities"] == pytest.approx(
                            expected["probabilities"], abs=1e-5
                        )
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            out, err = process.communicate(timeout=30)
            assert time.monotonic() - began < 15
        finally:
            process.kill()
    assert process.returncode == 0 and out == "stopped\n"
    assert err.count(" 200 POST ") == 73 and err.count(" 400 POST ") == 24
    assert "Traceback" not in err
