"""Files of tagged words as people have them: further columns, headers, comments, odd lines."""

import re

import pytest

from sft_keras.core.errors import DataError
from sft_keras.tasks.token_classification.conll import read_conll
from sft_keras.tasks.token_classification.tag_schemes import TagFormat

ADA = ("Ada", "Lovelace", "lived")
TAGS = ("B-PER", "I-PER", "O")


def read(folder, content, name="a.conll", **options):
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_conll(str(file), **options)


def rows(found, split="train"):
    return [(each.words, each.tags) for each in found.by_split[split]]


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("1\tAda\tB-PER\n2\tLovelace\tI-PER\n3\tlived\tO\n", (1, 2)),
        ("0 Ada B-PER\n1 Lovelace I-PER\n2 lived O\n", (1, 2)),
        ("1-1 0-3 Ada B-PER\n1-2 4-12 Lovelace I-PER\n1-3 13-18 lived O\n", (2, 3)),
        # GermEval 2014: the outer entities, then those nested in them.
        ("1\tAda\tB-PER\tO\n2\tLovelace\tI-PER\tO\n3\tlived\tO\tO\n", (1, 2)),
        ("1\tAda\tB-PER\tB-LOC\n2\tLovelace\tI-PER\tO\n3\tlived\tO\tO\n", (1, 2)),
        # CoNLL-2003 with an index: the chunks are no entities.
        ("1 Ada I-NP B-PER\n2 Lovelace I-NP I-PER\n3 lived I-VP O\n", (1, 3)),
        ("1 Ada NN I-NP B-PER\n2 Lovelace NN I-NP I-PER\n3 lived VB I-VP O\n", (1, 4)),
        ("Ada B-PER x\nLovelace I-PER y\nlived O B\n", (0, 1)),  # the tags are not last
        ("Ada\tB-PER\t\nLovelace\tI-PER\t\nlived\tO\t\n", (0, 1)),
        ("B-PER\tAda\nI-PER\tLovelace\nO\tlived\n", (1, 0)),
    ],
)
def test_the_columns_of_words_and_tags_are_found_and_said(tmp_path, content, columns):
    found = read(tmp_path, content)
    assert rows(found) == [(ADA, TAGS)]
    word, tag = columns
    (note,) = found.notes
    assert f"read from column {word} and the tags from column {tag} of" in note
    assert f'{{"text": {word}, "label": {tag}}}' in note


@pytest.mark.parametrize(
    "content",
    [
        "Ada NNP I-NP B-PER\nLovelace NNP I-NP I-PER\nlived VBD I-VP O\n",
        "Ada\t\tB-PER\nLovelace\t\tI-PER\nlived\t\tO\n",
        "Ada\tB-PER\nLovelace\tI-PER\t\nlived \t O\n",
        "Ada B-PER\nLovelace\tI-PER\n  lived O \n",
        "\ufeffAda B-PER\r\nLovelace I-PER\r\nlived O\r\n\r\n",
        "Ada\u00a0B-PER\nLovelace I-PER\nlived O\n",
        "Ada b_PER\nLovelace M-PER\nlived o\n",
    ],
)
def test_the_first_and_the_last_column_are_the_usual_ones(tmp_path, content):
    found = read(tmp_path, content)
    assert rows(found) == [(ADA, TAGS)] and not found.notes and not found.dropped


def test_numbers_that_are_words_are_no_index(tmp_path):
    assert rows(read(tmp_path, "1 B-X\n2 I-X\n3 O\n")) == [(("1", "2", "3"), ("B-X", "I-X", "O"))]


@pytest.mark.parametrize(
    "columns", [{"text": 2, "label": 0}, {"text": "2", "label": "-3"}, {"text": "w", "label": "t"}]
)
def test_columns_are_selected_by_position_or_name(tmp_path, columns):
    header = "t\tother\tw\n" if columns["text"] == "w" else ""
    content = f"{header}B-A\tB-B\tAda\nO\tO\tlived\n"
    assert rows(read(tmp_path, content, columns=columns)) == [(("Ada", "lived"), ("B-A", "O"))]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": 2}, r"from 0 to 1, or by their names in its first line. Received: 2"),
        ({"label": ("a", "b")}, r"Received: \('a', 'b'\)"),
        ({"label": "ner"}, r"Received: 'ner'. Its first line is 'Ada B-PER'"),
        ({"split": "x"}, r"selects the columns 'text' and 'label'.*Received: 'split'"),
    ],
)
def test_columns_that_are_not_there_are_refused(tmp_path, columns, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, "Ada B-PER\n", columns=columns)


@pytest.mark.parametrize(
    "header",
    ["token\tlabel", "Word\tNER-Tag", "# newdoc\n\ntokens\tner_tags\n", "word\tpos\ttag"],
)
def test_a_header_is_skipped_and_said(tmp_path, header):
    found = read(tmp_path, f"{header}\nAda\tB-PER\nLovelace\tI-PER\nlived\tO\n")
    assert rows(found) == [(ADA, TAGS)]
    shown = re.escape(repr(header.strip().splitlines()[-1]))
    assert any(re.search(f"was skipped as the header: {shown}", note) for note in found.notes)


def test_a_header_says_which_columns_are_which(tmp_path):
    content = "Sentence #\tWord\tPOS\tTag\nS 1\tAda\tNN\tB-X\n\tlived\tVB\tO\n"
    assert rows(read(tmp_path, content)) == [(("Ada", "lived"), ("B-X", "O"))]


def test_a_first_line_that_is_no_header_is_named(tmp_path):
    message = r"1 lines cannot be read.*first line names the columns.*data\.columns.*line 1: 'Wort"
    content = "Wort\tArt\nAda\tB-PER\nlived\tO\n"
    with pytest.raises(DataError, match=re.compile(message, re.DOTALL)):
        read(tmp_path, content)
    columns = {"text": "Wort", "label": "Art"}
    assert rows(read(tmp_path, content, columns=columns)) == [(("Ada", "lived"), ("B-PER", "O"))]


def test_comments_are_skipped_and_the_word_hash_is_read(tmp_path):
    content = "# newdoc\n#x y z\n###MEDLINE:1\nAda B-PER\n# O\n#metoo B-TAG\n\n# newdoc\nlived O\n"
    found = read(tmp_path, content)
    assert rows(found) == [
        (("Ada", "#", "#metoo"), ("B-PER", "O", "B-TAG")),
        (("lived",), ("O",)),
    ]
    assert found.notes == (
        "2 lines of a.conll begin with '#' and have no tag; they were skipped as comments.",
    )
    indexed = (
        "#\thttp://x.y [2009-10-17]\n1\tAda\tB-PER\tO\n2\t#\tO\tO\n\n# a\tb\tc\tO\n1\tc\tO\tO\n"
    )
    assert rows(read(tmp_path, indexed)) == [
        (("Ada", "#"), ("B-PER", "O")),
        (("c",), ("O",)),
    ]


@pytest.mark.parametrize("blank", [" ", "", "\u00a0", "\u200b", "\ufeff ", "\x07"])
@pytest.mark.parametrize("mark", [" ", "\t"])
def test_blank_words_are_dropped_and_counted(tmp_path, blank, mark):
    content = f"Ada{mark}B-PER\n{blank}{mark}O\n\n{blank}{mark}O\n\nlived{mark}O\n"
    found = read(tmp_path, content)
    assert rows(found) == [(("Ada",), ("B-PER",)), (("lived",), ("O",))]
    assert found.dropped == {"blank words": 2}
    assert [each.name for each in found.by_split["train"]] == ["train[0]", "train[2]"]


def test_an_entity_that_begins_with_a_blank_word_keeps_its_other_words(tmp_path):
    found = read(tmp_path, "\u200b\tB-A\n\u200b\tI-A\nx\tI-A\ny\tI-A\nz\tB-A\n")
    assert rows(found) == [(("x", "y", "z"), ("B-A", "I-A", "B-A"))]
    found = read(tmp_path, "\u200b\tB-A\nx\tE-A\ny\tS-A\n")
    assert rows(found) == [(("x", "y"), ("B-A", "B-A"))] and found.scheme == "IOBES"


def test_spaces_inside_a_word_belong_to_it(tmp_path):
    assert rows(read(tmp_path, "10\u00a0000 O\nAd\u200ba B-PER\n")) == [
        (("10\u00a0000", "Ad\u200ba"), ("O", "B-PER"))
    ]
    found = read(tmp_path, "New York\tB-LOC\n\u00a0Ada\u00a0\tB-PER\n")
    assert rows(found) == [(("New York", "Ada"), ("B-LOC", "B-PER"))]


@pytest.mark.parametrize(
    ("tags", "expected", "scheme", "note"),
    [
        (
            "B-A O I-A B-B",
            "B-A O B-A B-B",
            "IOB2",
            "1 tag was I-TYPE .*a.conll: line 3: I-A after O",
        ),
        (
            "B-A I-B B-A I-B B-A",
            "B-A B-B B-A B-B B-A",
            "IOB2",
            "2 tags were .*line 2: I-B after B-A, .*line 4",
        ),
        ("I-A O I-B O B-A", "B-A O B-B O B-A", "IOB1", "1 tag was B-TYPE where IOB1 .*line 5: B-A"),
    ],
)
def test_tags_out_of_order_are_read_and_counted(tmp_path, tags, expected, scheme, note):
    content = "".join(f"w {tag}\n" for tag in tags.split())
    found = read(tmp_path, content)
    assert (rows(found)[0][1], found.scheme) == (tuple(expected.split()), scheme)
    assert re.search(note, *found.notes)


def test_tags_without_a_prefix_are_read_by_an_option(tmp_path):
    content = "Ada PER\nLovelace PER\nlived O\nin O\nRome LOC\nParis PER\n"
    message = r"also has: 'LOC', 'PER'.*--set=task\.tag_scheme=IO: adjacent.*line 1: 'Ada PER'"
    with pytest.raises(DataError, match=re.compile(message, re.DOTALL)):
        read(tmp_path, content)
    found = read(tmp_path, f"word tag\n# newdoc\n{content}", tags=TagFormat("IO"))
    assert rows(found)[0][1] == ("B-PER", "I-PER", "O", "O", "B-LOC", "B-PER")
    assert found.scheme == "IO" and len(found.notes) == 2
    with pytest.raises(DataError, match=r"These have prefixes: remove task\.tag_scheme"):
        read(tmp_path, "Ada B-PER\nlived O\n", tags=TagFormat("IO"))


@pytest.mark.parametrize("outside", ["0", "_", "OTHER", "|"])
def test_another_tag_of_words_outside_entities_is_read_by_an_option(tmp_path, outside):
    content = f"Ada B-PER\nLovelace I-PER\nlived {outside}\n"
    option = "'--set=task.outside_tag=|'" if outside == "|" else f"--set=task.outside_tag={outside}"
    message = f"If {outside!r} marks words outside entities, add {option}\n"
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path, content)
    assert rows(read(tmp_path, content, tags=TagFormat(outside=outside))) == [(ADA, TAGS)]
    plain = f"Ada PER\nLovelace PER\nlived {outside}\nin {outside}\nto {outside}\n"
    message = (
        rf"--set=task\.tag_scheme=IO --set=task\.outside_tag=TAG.*\('{re.escape(outside)}'\?\)"
    )
    with pytest.raises(DataError, match=message):
        read(tmp_path, plain)
    found = read(tmp_path, plain, tags=TagFormat("IO", outside))
    assert rows(found)[0][1] == (*TAGS, "O", "O")


def test_prefixes_without_a_type_have_one_type(tmp_path):
    assert rows(read(tmp_path, "Ada B\nLovelace I\nlived O\n"))[0][1] == (
        "B-ENTITY",
        "I-ENTITY",
        "O",
    )


def test_the_names_of_conll_2003_are_splits(tmp_path):
    for name, word in (("eng.train", "a"), ("eng.testa", "b"), ("eng.testb", "c")):
        (tmp_path / name).write_text(f"-DOCSTART- -X- O\n\n{word} NN B-X\n")
    found = read_conll(str(tmp_path))
    words = {split: each[0].words for split, each in found.by_split.items()}
    assert words == {"train": ("a",), "validation": ("b",), "test": ("c",)}
    (tmp_path / "esp.testb").write_text("a B-X\n")
    with pytest.raises(DataError, match=r"one file per split.*'test': eng.testb, esp.testb"):
        read_conll(str(tmp_path))


def test_names_of_shared_tasks_are_splits(tmp_path):
    for name in ("NER-de-train.tsv", "NER-de-dev.tsv", "wnut17.test.annotated"):
        (tmp_path / name).write_text("a B-X\n")
    assert set(read_conll(str(tmp_path)).by_split) == {"train", "validation", "test"}


def test_backups_hidden_files_and_other_kinds_are_skipped_and_said(tmp_path):
    skipped = ("train.conll~", "train.conll.bak", ".train.conll.swp", "train.py", "train.conll.gz")
    for name in ("train.conll", *skipped):
        (tmp_path / name).write_text("a B-X\n")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "any").write_text("a B-X\n")
    (tmp_path / "test" / ".DS_Store").write_text("")
    found = read_conll(str(tmp_path))
    assert set(found.by_split) == {"train", "test"}
    (note,) = found.notes
    assert note.startswith("Skipped 7 files of ")
    for name in (*skipped, "__MACOSX", "test/.DS_Store"):
        assert name in note


def test_all_splits_have_the_columns_of_the_training_split(tmp_path):
    (tmp_path / "train.tsv").write_text("1\ta\tB-X\tO\n2\tb\tO\tB-Y\n")
    (tmp_path / "dev.tsv").write_text("1\ta\tO\tO\n2\tb\tO\tB-X\n")
    found = read_conll(str(tmp_path))
    assert rows(found, "validation") == [(("a", "b"), ("O", "O"))]
    assert len(found.notes) == 1


def test_sentences_with_faulty_lines_are_dropped_on_request(tmp_path):
    content = "a B-X\n\nb\nc O\n\nd PER\n\ne O\n"
    with pytest.raises(DataError, match=r"2 lines cannot be read.*data\.on_fault=drop"):
        read(tmp_path, content)
    found = read(tmp_path, content, drop_faulty=True)
    assert [words for words, _ in rows(found)] == [("a",), ("e",)]
    assert found.dropped == {"sentences with a line that cannot be read": 2}
    found = read(tmp_path, "a S-X\n\nb E-X\nc O\n", drop_faulty=True)
    assert rows(found) == [(("a",), ("B-X",))]
    assert found.dropped == {"sentences with tags out of order": 1}


def test_a_file_without_empty_lines_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"separate sentences by empty lines.*between its 500 words"
    ):
        read(tmp_path, "a O\n" * 500)


def test_another_encoding_is_read_if_it_is_named(tmp_path):
    content = "Zoë B-PER\n".encode("cp1252")
    with pytest.raises(DataError, match=r"must be in UTF-8.*data\.encoding="):
        read(tmp_path, content)
    assert rows(read(tmp_path, content, encoding="cp1252")) == [(("Zoë",), ("B-PER",))]


def test_joined_and_empty_words_of_conll_u_are_dropped_and_counted(tmp_path):
    lines = ["# text = du vin", "1-2\tdu\t_\t-", "1\tde\tO\t-", "2\tle\tB-X\t-", "2.1\tx\t_\t-"]
    lines += [f"{number}\tvin\tO\t-" for number in range(3, 40)]
    found = read(tmp_path, "\n".join(lines))
    assert rows(found)[0][0][:3] == ("de", "le", "vin")
    assert found.dropped == {"joined or empty words of CoNLL-U": 2}
