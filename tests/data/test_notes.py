"""What was dropped, excluded, truncated or changed is said in one sentence each."""

import dataclasses

import numpy as np
from prepared_split import held_split

from sft_keras.core.reporter import CallbackReporter
from sft_keras.data.examples import DataInfo
from sft_keras.data.notes import data_lines, data_notes, report_data

INFO = DataInfo("csv:a", ("x", "y"), {"train": 60, "validation": 10, "test": 10}, {}, {})


def _info(**facts):
    return dataclasses.replace(INFO, facts=facts)


def test_clean_data_has_no_notes():
    assert data_notes(_info(dropped={"empty": 0}, excluded={"test": 0}, notes=[])) == []
    assert data_lines(INFO) == [f"data  {INFO.summary()}"]


def test_dropped_examples_are_counted_by_reason_right_after_the_data():
    info = _info(dropped={"without a label": 50, "empty": 8, "duplicate": 0}, notes=["A was B."])
    lines = []
    report_data(CallbackReporter(lines.append), info)
    assert lines[1:] == [
        "data  dropped 50 without a label, 8 empty; 80 examples remain",
        "note  A was B.",
    ]


def test_the_effect_of_excluded_test_examples_on_the_score_is_said():
    (note,) = data_notes(_info(excluded={"train": 3, "validation": 0, "test": 2}))
    assert note.startswith("`data.exclude` removed 3 training and 2 test examples. The test score")
    assert "comparable only to runs that exclude the same" in note
    (note,) = data_notes(_info(excluded={"train": 3}))
    assert note == "`data.exclude` removed 3 training examples."


def test_truncated_texts_are_counted_with_their_share():
    def split(**facts):
        return dataclasses.replace(held_split(np.zeros((1, 2, 2, 3)), [0]), facts=facts)

    prepared = {
        "train": split(texts=200, cut_off=13, sequence_length=32),
        "validation": split(texts=50, cut_off=0, sequence_length=32),
        "test": split(texts=40, cut_off=2, sequence_length=32),
    }
    (note,) = data_notes(INFO, prepared)
    assert "`task.sequence_length` (32 tokens)" in note
    assert note.endswith("13 of 200 training texts (6.5%), 2 of 40 test texts (5.0%).")
