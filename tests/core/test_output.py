"""No character ends a command, whatever its output can encode."""

import contextlib
import io
import json
import os

import pytest

from sft_keras.core.output import (
    escape_unencodable_output,
    join_command,
    printable,
    split_command,
)

TEXT = 'blü "β" \N{PINEAPPLE} \udcff'


def _written(write):
    """Return what a function prints to an output in cp1252, as pipes on Windows are."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    with contextlib.redirect_stdout(output):
        write()
        output.flush()
    return output.buffer.getvalue().decode("cp1252")


def test_commands_escape_what_their_output_cannot_encode():
    def command():
        escape_unencodable_output()
        print(json.dumps({"name": TEXT}, ensure_ascii=False))

    written = _written(command)
    assert "blü" in written
    assert json.loads(written) == {"name": TEXT}


def test_library_code_prints_on_any_output():
    assert (
        _written(lambda: print(printable(TEXT))).strip() == 'blü "\\u03b2" \\ud83c\\udf4d \\udcff'
    )


@pytest.mark.parametrize("system", ["posix", "nt"])
def test_a_command_can_be_pasted_and_split_again(system, monkeypatch):
    monkeypatch.setattr(os, "name", system)
    words = ["python", r"--run_dir=C:\my runs\1", "--set=data.columns.text=review", "--log=quiet"]
    command = join_command(words)
    assert split_command(command) == words
    assert ("'" in command) == (system == "posix")  # cmd and PowerShell pass them on
