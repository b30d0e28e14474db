"""Ctrl-C and SIGTERM: a run ends where it can go on, and the same command goes on.

The whole path, in processes of their own, as a user has it.
"""

import json
import signal
import subprocess
import sys
import threading

import pytest

from sft_keras.runs.interrupt import StopRequest, handle_signals

RUN = (
    *("--recipe=quickstart", "--set=data.source=synthetic:3", "--set=backbone.image_size=32x32"),
    *("--set=backbone.weights=none", "--set=stages.top.unfreeze=1"),
)


def run(*arguments, **options):
    command = [sys.executable, "-m", "sft_keras.run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


# What a signal does


def test_outside_of_a_stage_a_signal_ends_the_run_at_once_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with handle_signals() as stop:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_within_a_stage_it_waits_for_the_next_check(capsys):
    with handle_signals() as stop:
        with pytest.raises(KeyboardInterrupt), stop.deferred():
            stop.check()
            signal.raise_signal(signal.SIGINT)
            stop.check()
        assert "repeat to stop immediately" in capsys.readouterr().err
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_another_thread_listens_to_nothing():
    found = []

    def listen():
        with handle_signals() as stop:
            found.append(stop)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert isinstance(found[0], StopRequest)


# The command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume=nowhere"], "holds no recipe.json"),
        (["--resume=auto"], "--resume=auto needs --recipe"),
        (["--resume=x", "--overwrite", "--recipe=quickstart"], "Pass only one"),
        (["--resume=x", "--run_dir=y"], "Remove --run_dir"),
        (["--resume=auto", "--recipe=quickstart", "--seeds=2"], "not several trials"),
    ],
)
def test_what_cannot_be_resumed_is_said_before_tensorflow_is_imported(arguments, message, tmp_path):
    ran = run(*arguments, cwd=tmp_path)
    assert ran.returncode == 2
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_reader_that_has_read_enough_is_no_error():
    reading = subprocess.Popen(
        [sys.executable, "-u", "-m", "sft_keras.run", "--list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    reading.stdout.close()
    assert reading.stderr.read() == b""
    assert reading.wait() == 141


@pytest.mark.slow
@pytest.mark.parametrize(
    "which", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)]
)
def test_a_stopped_run_says_how_to_go_on_and_does(tmp_path, which):
    folder = tmp_path / "run"
    arguments = (*RUN, "--set=stages.head.epochs=400", f"--run_dir={folder}")
    with subprocess.Popen(
        [sys.executable, "-m", "sft_keras.run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            if "  epoch 2/" in line:
                second = run(f"--resume={folder}")
                process.send_signal(which)
                break
        errors = process.stderr.read()
    assert second.returncode == 2
    assert "Another process is running in" in second.stderr
    assert process.returncode == 128 + which
    again = f"python -m sft_keras.run --resume={folder}"
    assert f"Resume with: {again}" in errors
    assert "Traceback" not in errors
    changed = run(*RUN, "--set=stages.head.epochs=3", "--resume=auto", f"--run_dir={folder}")
    assert changed.returncode == 2
    assert "`stages.head.epochs` was 400 and is 3." in changed.stderr
    shorter = ("--recipe", f"{folder}/recipe.json", "--set=stages.head.epochs=3")
    done = run(
        *shorter,
        *("--allow_changed=stages.head.epochs", "--resume=auto", f"--run_dir={folder}"),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "report.json").read_text())
    assert report["title"] == "quickstart"
    assert report["stages"][1]["epochs_run"] == 6
    assert not (folder / "checkpoints").exists()
    again = run(f"--resume={folder}")
    assert again.returncode == 0
    assert "is finished" in again.stdout


@pytest.mark.slow
def test_stopped_before_anything_was_trained_it_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "sft_keras.run", *RUN, f"--run_dir={tmp_path}/run"],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "run" / "recipe.json").is_file() and process.poll() is None:
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "no files remain" in errors
    assert not (tmp_path / "run").exists()
