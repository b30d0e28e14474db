"""Texts on the command line of `predict`: those that begin with a dash are no flags."""

import sys
from pathlib import Path

import pytest
from absl import flags

from sft_keras import predict as command
from sft_keras.cli.command import _parse_among_texts
from sft_keras.tasks.predictions import Prediction


@pytest.fixture(autouse=True)
def restored_flags():
    """Flags are global: restore their values and the order in which they may stand."""
    saved = flags.FLAGS.flag_values_dict()
    was_gnu = flags.FLAGS.is_gnu_getopt()
    yield
    for name in ("run", "json", "column"):
        flags.FLAGS[name].value = saved[name]
    flags.FLAGS.set_gnu_getopt(was_gnu)


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["-5 degrees outside"], ["-5 degrees outside"]),
        (["-- a dash, and a text", "b"], ["-- a dash, and a text", "b"]),
        (["-7", "-", "-\u00e9"], ["-7", "-", "-\u00e9"]),
        (["a", "--json", "b"], ["a", "b"]),
        (["--", "--json", "-x"], ["--json", "-x"]),
        (["a", "--", "-x"], ["a", "-x"]),
    ],
)
def test_texts_may_begin_with_a_dash(arguments, texts):
    assert _parse_among_texts(["predict", "--run=r", *arguments]) == ["predict", *texts]
    assert flags.FLAGS["run"].value == "r"
    assert flags.FLAGS["json"].value == ("--json" in arguments and arguments[0] != "--")


@pytest.mark.parametrize("argument", ["--jsn", "-wow", "--colum=x"])
def test_what_looks_like_a_flag_is_refused_with_what_to_write(argument, capsys):
    with pytest.raises(SystemExit):
        _parse_among_texts(["predict", "--run=r", "it's", argument])
    error = capsys.readouterr().err
    assert f"Unknown flag '{argument}'" in error and f"""-- 'it'"'"'s' {argument}""" in error


def test_tables_and_columns_reach_the_prediction(run_folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.csv").write_text("x\n")
    received = []

    def predict(run, inputs, columns):
        received.append((list(inputs), list(columns)))
        return [Prediction("x", value=1.0)]

    monkeypatch.setattr(command, "predict", predict)
    monkeypatch.setattr(command, "start_tensorflow", lambda: None)
    table = str(tmp_path / "a.csv")
    argv = _parse_among_texts(["predict", f"--run={run_folder}", table, "b", "--column=x"])
    command.main(argv)
    assert received == [([Path(table), "b"], ["x"])]
    assert "x" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", iter(["a.csv\n", "-b\r\n"]))
    command.main(["predict", "-"])
    assert received[1] == (["a.csv", "-b"], ["x"])
