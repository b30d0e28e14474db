"""Inputs of `predict`: paths, texts and tables, and what is skipped or may be a mistake."""

import json
import os
from pathlib import Path

import pytest

from sft_keras.core.errors import DataError
from sft_keras.inference import exported_model
from sft_keras.inference.exported_model import load_cached
from sft_keras.inference.inputs import read_inputs, table_or_text
from sft_keras.inference.predict import predict
from sft_keras.tasks.predictions import Prediction

IMAGES, TEXTS, PAIRS = ("image_bytes",), ("texts",), ("questions", "contexts")


def names(inputs, arguments=IMAGES, columns=()):
    return [item.name for item in read_inputs(inputs, arguments, columns)]


@pytest.fixture
def photos(tmp_path):
    """A folder of images and of what lies beside them."""
    for name in (
        "b.jpg",
        "sub/a.PNG",
        ".hidden.jpg",
        "__MACOSX/._b.jpg",
        "notes.txt",
        ".git/x.png",
    ):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"x")
    return tmp_path / "photos"


@pytest.mark.parametrize("form", [str, Path, lambda path: [str(path)], lambda path: (path,)])
def test_a_single_path_needs_no_list(photos, form):
    assert names(form(photos / "b.jpg")) == [str(photos / "b.jpg")]
    assert names(form(photos)) == [str(photos / "b.jpg"), str(photos / "sub" / "a.PNG")]


def test_a_single_text_needs_no_list():
    (item,) = read_inputs("A film.", TEXTS)
    assert item.values == {"texts": "A film."}
    (pair,) = read_inputs("Who?\tIt was Ada.", PAIRS)
    assert pair.values == {"questions": "Who?", "contexts": "It was Ada."}


def test_what_training_skips_is_skipped_and_said(photos, caplog):
    names(photos)
    (record,) = caplog.records
    assert "skipped 4 files that are hidden or have no image extension" in record.getMessage()
    assert ".git/x.png, .hidden.jpg, __MACOSX/._b.jpg, notes.txt" in record.getMessage()
    caplog.clear()
    assert names([photos / "notes.txt"]) == [str(photos / "notes.txt")]  # it was asked for
    assert not caplog.records


@pytest.mark.parametrize(
    ("content", "arguments", "columns", "expected"),
    [
        ("id,text\n1,Good.\n2,Bad.\n", TEXTS, (), ["Good.", "Bad."]),
        ("id,review\n1,Good.\n2,Bad.\n", TEXTS, ["review"], ["Good.", "Bad."]),
        ("review\nGood.\n", TEXTS, (), ["Good."]),
        ("context,question\nIt was Ada.,Who?\n", PAIRS, (), ["Who?\tIt was Ada."]),
        ("p,q\nIt was Ada.,Who?\n", PAIRS, ["q", "p"], ["Who?\tIt was Ada."]),
        ("q,passage\nWho?,It was Ada.\n", PAIRS, (), ["Who?\tIt was Ada."]),
        ("q,p\nWho?,It was Ada.\n", PAIRS, (), ["Who?\tIt was Ada."]),
        ("passage,q\nIt was Ada.,Who?\n", PAIRS, (), ["Who?\tIt was Ada."]),
    ],
)
def test_a_table_stands_for_its_rows(tmp_path, content, arguments, columns, expected):
    (tmp_path / "a.csv").write_text(content)
    assert names(tmp_path / "a.csv", arguments, columns) == expected
    assert names(str(tmp_path / "a.csv"), arguments, columns) == expected
    assert names([table_or_text(str(tmp_path / "a.csv"))], arguments, columns) == expected


def test_the_column_of_training_is_the_default(run_folder, tmp_path, monkeypatch):
    class Model:
        arguments = TEXTS

        def __init__(self, run):
            pass

        def predict(self, inputs):
            return [Prediction(item.name) for item in inputs]

    monkeypatch.setattr(exported_model, "ExportedModel", Model)
    exported_model._load.cache_clear()
    (run_folder / "recipe.json").write_text('{"data": {"columns": {"text": "review"}}}')
    (tmp_path / "a.csv").write_text("text,review\na,b\n")
    assert [each.input for each in predict(run_folder, tmp_path / "a.csv")] == ["b"]
    assert [each.input for each in predict(run_folder, tmp_path / "a.csv", "text")] == ["a"]
    assert [each.input for each in predict(str(run_folder), "A film.")] == ["A film."]
    exported_model._load.cache_clear()


def test_other_kinds_of_tables_are_read(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in "ab"))
    (tmp_path / "a.tsv").write_text("n\ttext\n1\tc\n")
    assert names([tmp_path / "a.jsonl", "d", tmp_path / "a.tsv"], TEXTS) == ["a", "b", "d", "c"]


def test_rows_without_a_text_have_an_error_in_their_place(tmp_path):
    (tmp_path / "a.csv").write_text("n,text\n1,a\n2, \n3,c\n")
    first, second, third = read_inputs(tmp_path / "a.csv", TEXTS)
    assert (first.name, third.name) == ("a", "c")
    assert (second.input, second.error) == (f"line 3 of {tmp_path / 'a.csv'}", "has no text")


@pytest.mark.parametrize(
    ("arguments", "columns", "message"),
    [
        (TEXTS, (), r"pass --column=NAME on .*Received the columns 'n', 'review', 'stars'\."),
        (TEXTS, ["text"], r"'stars', and no 'text'\."),
        (PAIRS, (), r"pass --column=QUESTION --column=CONTEXT on"),
        (PAIRS, ["review"], r"pass --column=QUESTION --column=CONTEXT on"),
    ],
)
def test_columns_that_are_not_certain_must_be_named(tmp_path, arguments, columns, message):
    (tmp_path / "a.csv").write_text("n,review,stars\n1,a,5\n")
    with pytest.raises(DataError, match=message):
        names(tmp_path / "a.csv", arguments, columns)


def test_texts_that_are_paths_of_files_are_said(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "review.txt").write_text("A film.")
    (tmp_path / "a.csv").write_text("text\nx\n")
    assert names(["review.txt", "a.csv", "no.txt"], TEXTS) == ["review.txt", "a.csv", "no.txt"]
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("'review.txt' is a file, but was read as a text")
    assert second.startswith("'a.csv' is a file")
    (refused,) = read_inputs(Path("review.txt"), TEXTS)
    assert refused.error.startswith("must be a text, or a table (.csv, .tsv")


@pytest.mark.parametrize("text", ["x" * 5000, "a\0b", "\ud83d", "~nobody/x", "/", ""])
def test_any_text_is_a_text(text):
    assert names([text], TEXTS) == [text] and table_or_text(text) == text


def test_a_column_is_not_for_images():
    with pytest.raises(DataError, match="Columns are for tables of texts"):
        names("a.jpg", IMAGES, ["text"])


def test_the_model_is_loaded_once_per_export(run_folder, monkeypatch):
    loaded = []
    monkeypatch.setattr(exported_model, "ExportedModel", lambda run: loaded.append(run) or run)
    exported_model._load.cache_clear()
    first = load_cached(run_folder)
    assert load_cached(str(run_folder)) is first and len(loaded) == 1
    pb = run_folder / "export" / "1" / "saved_model.pb"
    os.utime(pb, ns=(1, 1))
    load_cached(run_folder)
    assert len(loaded) == 2
    exported_model._load.cache_clear()
