"""Tagged words are read from columns in any of the usual schemes, or refused with the line."""

import re

import pytest

from sft_keras.core.errors import DataError
from sft_keras.tasks.token_classification.conll import read_conll
from sft_keras.tasks.token_classification.tag_schemes import detect_scheme, to_iob2

EXPECTED = ["B-LOC", "I-LOC", "B-LOC", "O", "B-PER", "B-LOC", "I-LOC", "I-LOC"]


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("IOB2", EXPECTED),
        ("IOB1", ["I-LOC", "I-LOC", "B-LOC", "O", "I-PER", "I-LOC", "I-LOC", "I-LOC"]),
        ("IOBES", ["B-LOC", "E-LOC", "S-LOC", "O", "S-PER", "B-LOC", "I-LOC", "E-LOC"]),
        ("BILOU", ["B-LOC", "L-LOC", "U-LOC", "O", "U-PER", "B-LOC", "I-LOC", "L-LOC"]),
    ],
)
def test_every_scheme_becomes_the_same(scheme, tags):
    assert to_iob2(tags) == EXPECTED
    assert detect_scheme(iter([["O"], tags])) == scheme


def test_an_entity_ends_where_the_scheme_says_so():
    assert to_iob2(["S-A", "I-A", "E-A", "I-A"]) == ["B-A", "B-A", "I-A", "B-A"]
    assert to_iob2(["I-A", "I-B"]) == ["B-A", "B-B"]
    assert to_iob2(["B-A-1", "I-A-1"]) == ["B-A-1", "I-A-1"]


@pytest.mark.parametrize("mark", [" ", "\t"])
def test_columns_comments_and_documents_are_told_apart(tmp_path, mark):
    lines = ["-DOCSTART- -X- O", "", "# id 7", "New NNP I-LOC", "York NNP I-LOC", "", "", "# SYM O"]
    lines += ["1 CD O"]
    text = "\n".join(line if line.startswith("# id") else line.replace(" ", mark) for line in lines)
    (tmp_path / "a.conll").write_text("\ufeff" + text, encoding="utf-8")
    found = read_conll(str(tmp_path / "a.conll"))
    assert found.scheme == "IOB1"
    assert [(each.words, each.tags) for each in found.by_split["train"]] == [
        (("New", "York"), ("B-LOC", "I-LOC")),
        (("#", "1"), ("O", "O")),
    ]


def test_a_folder_has_a_file_or_a_folder_for_each_split(tmp_path):
    (tmp_path / "x.train.conll").write_text("a O\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "anything").write_text("b O\n\nc B-X\n")
    (tmp_path / "README.md").write_text("no data")
    found = read_conll(str(tmp_path)).by_split
    assert {split: len(each) for split, each in found.items()} == {"train": 1, "validation": 2}
    (tmp_path / "val.conll").write_text("a O\n")
    with pytest.raises(DataError, match=r"one file per split. Received for 'validation'"):
        read_conll(str(tmp_path))
    (tmp_path / "x.train.conll").unlink()
    (tmp_path / "val.conll").unlink()
    with pytest.raises(DataError, match=r"must have a file for training.*holds README.md, dev"):
        read_conll(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a O\nb\n", r"must be a word and its tag.*as many columns.*\(2\).*\n  1. line 2: 'b'"),
        ("a O\nb c O\n", r"1 lines cannot be read.*\n  1. line 2: 'b c O'"),
        ("a PER\n", r"\n  1. line 1: 'a PER'"),
        ("a B-\n", r"line 1: "),
        ("word\n", r"line 1: "),
        ("a;O\nb;B-X\n", r"may be separated by ';': replace it by tabs"),
        (
            "a O\nb B_\nc -X\n",
            r"2 lines .*also has: '-X', 'B_'.*line 2: 'b B_'\n  2. line 3: 'c -X'",
        ),
        (b"\xff\xfe O\n", r"Convert it to UTF-8"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path, content, said):
    file = tmp_path / "a.conll"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=re.compile(said, re.DOTALL)):
        read_conll(str(file))


@pytest.mark.shared
def test_real_sentences_are_read(shared_folder):
    found = read_conll(str(shared_folder / "data" / "wnut17" / "CONLL-format" / "data"))
    sizes = {split: len(sentences) for split, sentences in found.by_split.items()}
    assert (sizes, found.scheme) == ({"train": 3394, "validation": 1009, "test": 1287}, "IOB2")
    assert not found.notes and not found.dropped
    kinds = {tag[2:] for each in found.by_split["test"] for tag in each.tags if tag != "O"}
    assert kinds == {"person", "location", "corporation", "product", "creative-work", "group"}


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["S-A", "E-A"], "in IOBES.*line 3: E-A after S-A"),
        (["B-A", "O", "S-A"], "line 3: O after B-A"),
        (["B-A", "E-B", "S-A"], "line 3: E-B after B-A"),
        (["U-A", "B-A", "I-A"], "in BILOU.*line 4: I-A at the end of a sentence"),
    ],
)
def test_tags_that_cannot_follow_each_other_are_named_by_their_line(tmp_path, tags, message):
    lines = ["-DOCSTART- O", *(f"word {tag}" for tag in tags)]
    (tmp_path / "a.conll").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=re.compile(message, re.DOTALL)):
        read_conll(str(tmp_path / "a.conll"))


def test_a_file_without_a_sentence_is_refused(tmp_path):
    (tmp_path / "a.conll").write_text("\n# nothing\n")
    with pytest.raises(DataError, match=r"a\.conll must hold sentences.*It holds none"):
        read_conll(str(tmp_path / "a.conll"))
