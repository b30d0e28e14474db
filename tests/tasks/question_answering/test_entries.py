"""Questions as people have them: other forms of JSON, odd ids and positions, rows from Python."""

import json
import re

import numpy as np
import pytest

from sft_keras import Data, Questions
from sft_keras.core.errors import DataError
from sft_keras.tasks.question_answering.examples import Answer
from sft_keras.tasks.question_answering.source import list_questions
from sft_keras.tasks.question_answering.squad import read_squad

CONTEXT = "Rome is old. Rome is big."
ROW = {
    "id": "a",
    "title": "Rome",
    "context": CONTEXT,
    "question": "How is it?",
    "answers": {"text": ["old", "big"], "answer_start": [8, 21]},
}
SQUAD = {
    "id": "a",
    "question": "How is it?",
    "answers": [{"text": "old", "answer_start": 8}, {"text": "big", "answer_start": 21}],
}
PARAGRAPH = {"context": CONTEXT, "qas": [SQUAD]}
ARTICLE = {"title": "Rome", "paragraphs": [PARAGRAPH]}


def read(folder, text, name="a.json", **options):
    file = folder / name
    file.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return read_squad(str(file), **options)


def squad(*entries):
    return {"data": [{"title": "Rome", "paragraphs": [{"context": CONTEXT, "qas": entries}]}]}


@pytest.mark.parametrize(
    "content",
    [
        {"version": "1.1", "data": [ARTICLE]},
        [ARTICLE],
        ARTICLE,
        PARAGRAPH,
        [PARAGRAPH],
        [ROW],
        ROW,
        {"data": [ROW]},
        {"rows": [{"row_idx": 0, "row": ROW}]},
        {name: [value] for name, value in ROW.items()},
        json.dumps(ROW) + "\n",
        json.dumps(PARAGRAPH) + "\n\n",
        [{**ROW, "answers": SQUAD["answers"]}],
    ],
)
def test_questions_are_read_from_every_form(tmp_path, content):
    found = read(tmp_path, content)
    (question,) = found.by_split["train"]
    assert (question.name, question.question, question.context) == ("a", "How is it?", CONTEXT)
    assert question.answers == (Answer("old", 8), Answer("big", 21))
    assert not found.notes and not found.dropped


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_lines_are_rows_and_a_faulty_one_is_named(tmp_path, name):
    lines = [json.dumps({**ROW, "id": number}) for number in range(3)]
    found = read(tmp_path, "\n".join(lines) + "\n", name)
    assert [question.name for question in found.by_split["train"]] == ["0", "1", "2"]
    lines[1] = lines[1][:-1]
    with pytest.raises(DataError, match=r"must be a JSON file.*line 2: Expecting"):
        read(tmp_path, "\n".join(lines), name)


@pytest.mark.parametrize(
    "answers",
    [
        {"text": "old", "answer_start": 8},
        "old",
        ["old"],
        [{"text": "old"}],
        [{"text": "old", "answer_start": None}],
        [{"text": "old", "answer_start": ""}],
        [{"text": "old", "answer_start": -1}],
        {"text": ["old"], "answer_start": []},
    ],
)
def test_a_single_answer_and_one_without_a_position_are_read(tmp_path, answers):
    (tmp_path / "a.json").write_text(json.dumps(squad({**SQUAD, "answers": answers})))
    listing = list_questions(Data(source=f"squad:{tmp_path / 'a.json'}"), 0)
    (element,) = listing.parts["train"].stream(np.arange(1), None).as_numpy_iterator()
    assert (element["answers"].tolist(), element["starts"].tolist()) == ([b"old"], [8])


@pytest.mark.parametrize("start", ["8", " 8 ", "8.0", 8.0])
def test_positions_as_text_are_read_and_said(tmp_path, start):
    found = read(tmp_path, squad({**SQUAD, "answers": [{"text": "old", "answer_start": start}]}))
    assert found.by_split["train"][0].answers == (Answer("old", 8),)
    assert found.notes == [
        "1 questions have an answer_start that is text or a decimal, read as a number (a.json)."
    ]


def test_questions_without_answers_are_unanswerable(tmp_path):
    plausible = {"plausible_answers": SQUAD["answers"]}
    entries = [
        {"id": 1, "question": "?", "is_impossible": True, **plausible},
        {"id": 2, "question": "?", "is_impossible": "true", "answers": [], **plausible},
        {"id": 3, "question": "?", "answers": []},
        {"id": 4, "question": "?", "answers": None},
        {"id": 5, "question": "?", "answers": {"text": [], "answer_start": []}},
        {"id": 6, "question": "?", "answers": [], "is_impossible": False},
    ]
    found = read(tmp_path, squad(*entries))
    assert [question.answers for question in found.by_split["train"]] == [()] * 6
    assert found.notes == [
        "1 questions have no answers, but is_impossible is false; read as unanswerable (a.json)."
    ]


def test_missing_and_repeated_ids_are_replaced_and_said(tmp_path):
    entries = [
        {**SQUAD, "id": "0", "question": "a"},
        {**SQUAD, "id": "0", "question": "b"},
        {**SQUAD, "id": "0#2", "question": "c"},
        {**SQUAD, "id": None, "question": "d"},
        {"question": "e", "answers": []},
    ]
    found = read(tmp_path, squad(*entries))
    names = {question.question: question.name for question in found.by_split["train"]}
    assert names == {"a": "0", "b": "0#3", "c": "0#2", "d": "train[3]", "e": "train[4]"}
    assert found.notes == [
        "2 questions have no id and are named by their position (a.json).",
        "1 questions repeat the id of another one and were renamed: '0' is now '0#3' (a.json).",
    ]


def test_a_question_that_occurs_again_is_one_with_all_answers(tmp_path):
    rows = [
        {**ROW, "answers": {"text": ["old"], "answer_start": [8]}},
        {**ROW, "answers": {"text": ["big"], "answer_start": [21]}},
        {**ROW, "answers": {"text": ["old"], "answer_start": [8]}},
        {**ROW, "id": "b"},
    ]
    found = read(tmp_path, rows)
    first, second = found.by_split["train"]
    assert first.answers == second.answers == (Answer("old", 8), Answer("big", 21))
    assert (first.name, second.name) == ("a", "b")
    assert found.dropped == {"questions that repeat another one": 2}


def test_every_faulty_question_is_named_or_dropped_on_request(tmp_path):
    entries = [{**SQUAD, "id": f"q{n}", "answers": 3 if n % 2 else []} for n in range(14)]
    with pytest.raises(
        DataError, match=re.compile("7 questions.*5. question 'q9'.*6. and so on", 16)
    ):
        read(tmp_path, squad(*entries))
    found = read(tmp_path, squad(*entries), drop_faulty=True)
    assert [question.name for question in found.by_split["train"]] == [
        f"q{n}" for n in range(0, 14, 2)
    ]
    assert found.dropped == {"questions that cannot be read": 7}


def test_two_files_for_a_split_are_refused(tmp_path):
    for name in ("train-v1.1.json", "dev.json", "dev.json~", ".train.json", "notes.json"):
        (tmp_path / name).write_text(json.dumps([ROW]))
    found = read_squad(str(tmp_path))
    assert set(found.by_split) == {"train", "validation"}
    (note,) = found.notes
    assert "Skipped 2 files" in note and ".train.json, dev.json~" in note
    for name in ("squad_train.json", "train.jsonl"):
        (tmp_path / name).write_text(json.dumps([ROW]))
        with pytest.raises(DataError, match=rf"one file per split.*\n  1. train: .*{name}"):
            read_squad(str(tmp_path))
        (tmp_path / name).unlink()


def test_rows_from_python_are_read_as_those_of_files():
    rows = [{**ROW, "id": number, "context": f"{number} {CONTEXT}"} for number in range(3)]
    rows[1]["answers"] = {"text": np.array(["old"]), "answer_start": np.array([9])}
    listing = list_questions(Data(source=Questions(rows, [("q", "a b", ["b"])])), 0)
    assert listing.parts["train"].ids == ("0", "1", "2")
    elements = list(listing.parts["train"].stream(np.arange(3), None).as_numpy_iterator())
    assert [element["starts"].tolist() for element in elements] == [[10, 23], [10], [10, 23]]
    rows[2]["answers"] = {"text": ["a"], "answer_start": ["x"]}
    with pytest.raises(DataError, match=r"train\[2\]: answers\[0\]\.answer_start must be a whole"):
        list_questions(Data(source=Questions(rows)), 0)


def test_rows_from_python_with_one_id_are_told_apart():
    rows = [{**ROW, "context": f"{number} {CONTEXT}"} for number in (1, 2, 2)]
    listing = list_questions(Data(source=Questions(rows)), 0)
    assert listing.parts["train"].ids == ("a", "a#2")


def test_another_encoding_is_read_if_it_is_named(tmp_path):
    text = json.dumps([{**ROW, "question": "Où?"}], ensure_ascii=False)
    (tmp_path / "a.json").write_bytes(text.encode("cp1252"))
    with pytest.raises(DataError, match=r"must be in UTF-8.*data\.encoding="):
        read_squad(str(tmp_path / "a.json"))
    found = read_squad(str(tmp_path / "a.json"), encoding="cp1252")
    assert found.by_split["train"][0].question == "Où?"
