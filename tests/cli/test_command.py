"""What a command prints of warnings: those of this package, not those of libraries."""

import logging
import subprocess
import sys

from sft_keras.runs.console import relay_warnings
from sft_keras.runs.folder import RunFolder

PROGRAM = """
import logging
import absl.logging
from sft_keras.cli.command import run_command

def entry(argv):
    absl.logging.warning("noise of a library")
    logging.getLogger("tensorflow").warning("noise of TensorFlow")
    logging.getLogger("sft_keras.data.splits").warning("3 files were ignored in %s", "a folder")

run_command(entry)
"""


def test_warnings_of_the_package_come_through_and_those_of_libraries_do_not():
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert ran.stderr.splitlines() == ["warning  3 files were ignored in a folder"]


def test_a_run_logs_each_warning_once(tmp_path, capsys):
    run = RunFolder.create("x", tmp_path / "run", overwrite=False)
    logger = logging.getLogger("sft_keras.data.splits")
    with relay_warnings(run):
        for _ in range(2):
            logger.warning("%d files were ignored", 3)
    assert run.file("log.txt").read_text().splitlines() == ["warning  3 files were ignored"]
    assert capsys.readouterr() == ("warning  3 files were ignored\n", "")
    assert logging.getLogger("sft_keras").propagate
