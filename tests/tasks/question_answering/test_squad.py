"""Questions in SQuAD's JSON are read or refused, and answers counted as its own script does."""

import json
import re

import pytest

from sft_keras.core.errors import DataError
from sft_keras.tasks.question_answering.examples import Answer
from sft_keras.tasks.question_answering.metrics import exact_match, f1, normalize_answer
from sft_keras.tasks.question_answering.squad import read_squad

CONTEXT = "The Normans came to Normandy. The cafe\u0301 opened."


def content(*asked):
    paragraph = {"context": CONTEXT, "qas": list(asked)}
    return {"version": "v2.0", "data": [{"title": "Normans", "paragraphs": [paragraph]}]}


def question(name="1", text="Normandy", start=20, **fields):
    answers = [{"text": text, "answer_start": start}]
    return {"id": name, "question": " Where? ", "answers": answers, **fields}


def written(folder, value, name="a.json"):
    (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return str(folder / name)


def test_questions_with_and_without_answers_are_read(tmp_path):
    impossible = question("2", is_impossible=True)
    none = {"id": 3, "question": "Why?", "answers": []}
    found = read_squad(written(tmp_path, content(question(), impossible, none)))
    one, two, three = found.by_split["train"]
    assert not found.notes and not found.dropped
    assert (one.name, one.question, one.context) == ("1", "Where?", CONTEXT)
    assert one.answers == (Answer("Normandy", 20),)
    assert (two.answers, three.answers, three.name) == ((), (), "3")
    assert {each.article for each in (one, two, three)} == {"Normans"}


def test_a_folder_has_a_file_for_each_split(tmp_path):
    written(tmp_path, content(question()), "train-v2.0.json")
    written(tmp_path, content(question()), "dev-v2.0.json")
    assert set(read_squad(str(tmp_path)).by_split) == {"train", "validation"}
    (tmp_path / "train-v2.0.json").unlink()
    with pytest.raises(DataError, match=r"called train\*\.json.*holds dev-v2\.0\.json"):
        read_squad(str(tmp_path))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            content(question(start="20x")),
            r"'1': answers\[0\]\.answer_start must be .*'20x'",
        ),
        (content(question(start=1.5)), r"answers\[0\]\.answer_start must be a whole .*: 1\.5"),
        (content(question(start=True)), r"answers\[0\]\.answer_start must be a whole .*: True"),
        (content(question(text=["Normandy"])), r"question '1': answers\[0\]\.text must be a text"),
        (content(question(answers=[3])), r"question '1': answers\[0\] must have the fields text"),
        (content(question(answers=3)), r"question '1': answers must be a list. Received: 3"),
        (content({"id": "7", "answers": []}), r"question '7': question is missing.*id, answers"),
        (content({"id": "7", "question": "?"}), r"question '7': answers is missing"),
        (content(question(question=" ")), r"question '1': question must not be blank"),
        ({"data": [{"paragraphs": [{"qas": [question()]}]}]}, r"'1': context must be a text.*None"),
        ([1], r"must be in SQuAD's format.*Entry 0 is neither. Received: 1"),
        (
            {"data": [{"text": "a"}]},
            r"Entry 0 is neither.*an object with the fields text",
        ),
        ({"data": [{"paragraphs": [3]}]}, r"Paragraph 0 of entry 0 is neither"),
    ],
)
def test_what_is_not_as_it_says_is_refused(tmp_path, value, said):
    with pytest.raises(DataError, match=re.compile(said, re.DOTALL)):
        read_squad(written(tmp_path, value))


def test_what_is_no_json_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match=r"must be a JSON file. It cannot be parsed"):
        read_squad(str(tmp_path / "a.json"))
    with pytest.raises(DataError, match=r"'squad:nowhere', which is /"):
        read_squad("nowhere")


@pytest.mark.shared
def test_real_questions_are_read(shared_folder):
    questions = read_squad(str(shared_folder / "data" / "xquad" / "xquad.en.json")).by_split[
        "train"
    ]
    assert len(questions) == 1190
    assert all(question.answers for question in questions)


@pytest.mark.parametrize(
    ("answer", "right", "exact", "overlap"),
    [
        ("The Normans!", ["normans"], 1.0, 1.0),
        ("in Normandy", ["Normandy"], 0.0, 2 / 3),
        ("a b b c", ["b b d", "x"], 0.0, 2 * (2 / 3) * (2 / 3) / (4 / 3)),
        ("Normandy", [], 0.0, 0.0),
        ("", [], 1.0, 1.0),
        ("the", [], 1.0, 1.0),  # nothing but an article says nothing
        ("", ["Normandy"], 0.0, 0.0),
        ("x", ["the", "x"], 1.0, 1.0),
    ],
)
def test_an_answer_is_compared_as_the_official_script_does(answer, right, exact, overlap):
    assert exact_match(answer, right) == exact
    assert f1(answer, right) == pytest.approx(overlap)


def test_normalising_leaves_other_words_and_letters():
    assert (
        normalize_answer(" An  apple, the a-b; theatre \u2014 Caf\u00e9")
        == "apple ab theatre \u2014 caf\u00e9"
    )
