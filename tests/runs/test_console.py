"""What a run prints for people, for those who want little of it, and for programs."""

import json

from sft_keras.runs.folder import RunFolder

LINES = ("head  epoch 1/2  loss 0.5", "warning  the loss rises", "test  accuracy 0.9")


def said(log, tmp_path, capsys):
    run = RunFolder.create("x", tmp_path / log, overwrite=False, log=log)
    for line in LINES:
        run.line(line)
    run.epoch("head", 3, {"loss": 0.5})
    run.progress("passing")
    assert run.file("log.txt").read_text().splitlines() == list(LINES)
    return capsys.readouterr().out.splitlines()


def test_people_are_told_all_or_little(tmp_path, capsys):
    assert said("plain", tmp_path, capsys) == list(LINES)
    assert said("quiet", tmp_path, capsys) == list(LINES[1:])


def test_programs_are_told_an_object_a_line(tmp_path, capsys):
    found = [json.loads(line) for line in said("json", tmp_path, capsys)]
    assert [each["said"] for each in found[:3]] == list(LINES)
    assert found[3] == {"time": found[3]["time"], "stage": "head", "step": 3, "loss": 0.5}


def test_one_of_many_trials_is_heard_by_its_log_alone(tmp_path, capsys):
    run = RunFolder(tmp_path, is_quiet=True, log="json")
    run.line("head")
    run.epoch("head", 1, {})
    assert capsys.readouterr().out == ""
