"""One process per test session that probes all SavedModels, instead of a process per model.

A run verifies its export in a fresh process that imports only TensorFlow. The import takes 5 of the
13 CPU seconds of a tiny run, so the tests keep one such process alive. It runs the same probe file
with the same isolation. Tests of the export itself use fresh processes, see `fresh_process`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from sft_keras.core.errors import ExportError
from sft_keras.export import saved_model_probe
from sft_keras.export.isolated_process import run_isolated as run_in_fresh_process

_SERVER = """
import contextlib, io, json, runpy, sys, traceback
import tensorflow
for line in sys.stdin:
    file, arguments = json.loads(line)
    sys.argv, output = [file, *arguments], io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            runpy.run_path(file, run_name="__main__")
    except SystemExit as end:
        if end.code:
            output.write(str(end.code))
        failed = bool(end.code)
    except BaseException:
        failed = True
        output.write(traceback.format_exc())
    else:
        failed = False
    print("REPLY" + json.dumps([failed, output.getvalue()]), flush=True)
"""


class ProbeServer:
    """Replaces `isolated_process.run_isolated` for probes that need only TensorFlow."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._is_fresh = False

    @contextlib.contextmanager
    def fresh_process(self) -> Iterator[None]:
        """Context manager: run every probe in a fresh process."""
        self._is_fresh, before = True, self._is_fresh
        try:
            yield
        finally:
            self._is_fresh = before

    def run_isolated(self, file: str, *arguments: str, subject: str) -> None:
        """Run a probe in the shared process, or in a fresh one if it needs further modules."""
        modules = arguments[4:]
        if self._is_fresh or modules or Path(file) != Path(saved_model_probe.__file__):
            run_in_fresh_process(file, *arguments, subject=subject)
            return
        if self._process is None:
            command = [sys.executable, "-I", "-c", _SERVER]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
            )
        requests, replies = self._process.stdin, self._process.stdout
        if requests is None or replies is None:
            raise ExportError("The probe process has no pipes.")
        requests.write(json.dumps([file, arguments]) + "\n")
        requests.flush()
        for line in replies:
            if line.startswith("REPLY"):
                failed, output = json.loads(line.removeprefix("REPLY"))
                if failed:
                    raise ExportError(
                        f"{subject} could not be loaded and run. Its output:\n{output}"
                    )
                return
        raise ExportError(f"{subject} terminated the probe process.")

    def stop(self) -> None:
        """Stop the process."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(timeout=30)


SERVER = ProbeServer()
