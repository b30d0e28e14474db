"""The demo command, in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from sft_keras.core.errors import RunFolderError
from sft_keras.demo.header import read_about
from sft_keras.export.paths import SAVED_MODEL

COMMAND = (sys.executable, "-X", "importtime", "-m", "sft_keras.demo")


def failed_run(*flags):
    """Return the error message for invalid flags, and the imported packages."""
    ran = subprocess.run([*COMMAND, *flags], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2, ran.stderr
    lines = ran.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time")}
    message = "\n".join(line for line in lines if not line.startswith("import time"))
    return message, imported


def test_errors_are_reported_before_tensorflow_and_gradio_are_imported(run_folder, tmp_path):
    pytest.importorskip("gradio")
    damaged = tmp_path / "damaged" / SAVED_MODEL
    damaged.parent.mkdir(parents=True)
    (run_folder / SAVED_MODEL).rename(damaged)
    damaged.parents[1].joinpath("report.json").write_text("{}")
    whole = tmp_path / "whole" / SAVED_MODEL
    whole.mkdir(parents=True)
    (whole / "saved_model.pb").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = {
            "Say which run": [],
            "has no export/1/saved_model.pb": [f"--run={tmp_path}"],
            "report.json must be unchanged": [f"--run={tmp_path / 'damaged'}"],
            f"{port}: Address already in use": [f"--run={tmp_path / 'whole'}", f"--port={port}"],
            "--max_upload_mb": [f"--run={tmp_path / 'whole'}", "--max_upload_mb=0"],
        }
        for reason, flags in cases.items():
            message, imported = failed_run(*flags)
            assert reason in message and "Traceback" not in message
            assert not {"tensorflow", "gradio"} & imported


def test_missing_package_is_one_message(run_folder):
    code = (
        "import importlib.util, sys; find = importlib.util.find_spec;"
        "importlib.util.find_spec = lambda name: None if name == 'gradio' else find(name);"
        "from sft_keras.demo import __main__; from sft_keras.cli.command import run_command;"
        f"sys.argv = ['demo', '--run={run_folder}']; run_command(__main__.main)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert ran.stderr == "The page needs gradio: pip install 'sft_keras[demo]'\n"


def test_header_has_training_and_score_but_no_paths(tmp_path):
    assert read_about(tmp_path) == read_about(f"{tmp_path}/")
    assert (read_about(tmp_path).name, read_about(tmp_path).lines) == (tmp_path.name, ())
    report = {
        "smoke": False,
        "score": "macro_f1",
        "test": {"macro_f1": {"value": 0.9, "low": 0.85, "high": 1.0}, "examples": 1},
        "data": {"source": "csv:/home/ada/x.csv", "sizes": {"train": 1200}, "class_names": ["a"]},
        "model": {"preset": "hf:/home/ada/minilm/"},
        "recipe": {"task": {"kind": "MaskedLM"}},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    about = read_about(tmp_path)
    lines = [" ".join(line.split()) for line in about.lines]  # of all kinds of spaces
    assert lines == [
        "hf:minilm, trained on 1 200 examples of csv:x.csv in 1 class.",
        "Test macro F1 90.0 % (95 % interval 85.0 to 100.0 %, 1 test example).",
    ]
    (tmp_path / "report.json").write_text(json.dumps({**report, "smoke": True}))
    assert "smoke run" in read_about(tmp_path).lines[0]
    (tmp_path / "report.json").write_text(json.dumps({**report, "test": []}))
    with pytest.raises(RunFolderError, match="Copy it again"):
        read_about(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)]
)
def test_shutdown_prints_one_line_and_deletes_uploads(image_run, tmp_path, how):
    pytest.importorskip("gradio")
    with subprocess.Popen(
        [sys.executable, "-m", "sft_keras.demo", f"--run={image_run.run_dir}", "--port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TMPDIR": str(tmp_path)},
    ) as process:
        try:
            url = process.stdout.readline().split()[1]
            assert url.startswith("http://127.0.0.1:")
            body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            kind = {"Content-Type": "multipart/form-data; boundary=x"}
            asked = urllib.request.Request(
                f"{url}/gradio_api/upload", body + b"abc\r\n--x--\r\n", kind
            )
            with urllib.request.urlopen(asked, timeout=60) as answer:
                (path,) = json.load(answer)
            assert path.startswith(str(tmp_path)) and Path(path).read_text() == "abc"
            process.send_signal(how)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out) == (0, "stopped\n")
    assert "Traceback" not in err
    assert not list(tmp_path.glob("sft_keras_demo_*"))
