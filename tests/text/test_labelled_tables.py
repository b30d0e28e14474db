"""Tables, folders and lists of texts as people have them: headers, labels, splits, faulty rows."""

import dataclasses

import numpy as np
import pytest

from sft_keras import Data, Texts
from sft_keras.core.errors import DataError
from sft_keras.data.splits import build_splits
from sft_keras.tasks import Clean
from sft_keras.text.labels import MultiLabelKind, NumericLabelKind, SingleLabelKind
from sft_keras.text.sources.texts import list_texts

ROWS = [f"text number {n},{'good' if n % 2 else 'bad'}" for n in range(20)]
CSV = "\n".join(["text,label", *ROWS, ""])
MULTI = MultiLabelKind(",")


def listed(folder, content, kind=None, name="t.csv", **fields):
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return listed_data(Data(source=f"{name.split('.')[-1]}:{file}", **fields), kind)


def listed_data(data, kind=None):
    return list_texts(data, Clean(), kind or SingleLabelKind(), seed=0)


def notes_of(listing):
    return " ".join(listing.facts.get("notes", []))


def labels_of(listing, split="train"):
    """Returns the names of each text's classes, by id."""
    part = listing.parts[split]
    if part.occurrences is None:
        return {i: listing.class_names[label] for i, label in zip(part.ids, part.labels)}
    names = np.array(listing.class_names, object)
    return {i: names[row > 0].tolist() for i, row in zip(part.ids, part.occurrences)}


@pytest.mark.parametrize(
    ("columns", "line"),
    [({"text": 0, "label": 1}, "text number 0"), ({"text": "0,", "label": 1}, None)],
)
def test_a_table_without_a_header_is_read_by_positions(tmp_path, columns, line):
    with pytest.raises(
        DataError, match=r"looks like an example.*text=0 --set=data.columns.label=1"
    ):
        listed(tmp_path, "\n".join(ROWS))
    listing = listed(tmp_path, "\n".join(ROWS), columns={"text": 0, "label": 1})
    assert len(listing.parts["train"].ids) == 20
    assert "t.csv has no header" in notes_of(listing)
    assert listing.parts["train"].ids[0] == "train[0]"
    assert len(listed(tmp_path, CSV, columns={"text": 0, "label": 1}).parts["train"].ids) == 20


def test_flags_for_a_missing_header_name_the_longest_column_the_text(tmp_path):
    lines = "\n".join(f'"{n % 2}","{n}","someone","A long text, number {n}"' for n in range(8))
    with pytest.raises(DataError, match=r"columns\.text=3 --set=data\.columns\.label=0\."):
        listed(tmp_path, lines)
    listing = listed(tmp_path, lines, columns={"text": 3, "label": 0})
    assert listing.class_names == ("0", "1") and len(listing.parts["train"].ids) == 8


def test_rows_without_a_label_are_dropped_counted_and_listed(tmp_path):
    rows = ["a1,", "a2,NA", "a3,null", "a4,nan", "a5,None", "a6,<NA>", ",", 'a7,"  "']
    listing = listed(tmp_path, CSV + "\n".join(rows))
    assert listing.facts["dropped"]["without a label"] == 7
    assert listing.facts["dropped"]["that are blank"] == 1
    assert "Dropped without a label: train[20] (line 22), train[21] (line 23)" in notes_of(listing)
    assert "read as missing: 'NA' (1), 'null' (1)" in notes_of(listing)
    assert listing.class_names == ("bad", "good") and not listing.all_faults()
    numbers = "text,label\n" + "\n".join(f"t{n},{n}" for n in range(30)) + "\nx,NaN\ny,\nz,oops\n"
    listing = listed(tmp_path, numbers, NumericLabelKind())
    assert listing.facts["dropped"]["without a label"] == 2
    source = Texts((["a", "b", "c", "d"], [None, "nan", float("nan"), ""]))
    dropped = listed_data(Data(source=source), NumericLabelKind()).facts["dropped"]
    assert dropped["without a label"] == 4
    assert "finite number as their label: train[32] (line 34, 'oops')" in listing.all_faults()[0]


def test_many_dropped_rows_are_listed_up_to_twenty(tmp_path):
    listing = listed(tmp_path, CSV + "\n".join(f"u{n}," for n in range(50)))
    assert listing.facts["dropped"]["without a label"] == 50
    assert notes_of(listing).endswith("train[39] (line 41) and 30 more.")


BAD = 'text,label\n"a, b",x\nc,d,y\ne\n\xe9,x\nf,x\ng,z\n'.encode("latin-1")
FAULTS = {"train[1]": "with too many", "train[2]": "with too few", "train[3]": "not in UTF-8"}


def test_faulty_rows_are_named_dropped_or_excluded(tmp_path):
    listing = listed(tmp_path, BAD)
    faults = " ".join(listing.all_faults())
    for id_, reason in FAULTS.items():
        number = int(id_[6:-1]) + 2
        assert f"1 examples {'that are ' * (number == 5)}{reason}" in faults
        assert f"{id_} (line {number}" in faults
    assert "--set=data.on_fault=drop" in faults
    dropped = listed(tmp_path, BAD, on_fault="drop")
    assert not dropped.all_faults() and len(dropped.parts["train"].ids) == 3
    assert sum(dropped.facts["dropped"].values()) == 3
    assert all(id_ in notes_of(dropped) for id_ in FAULTS)
    (tmp_path / "exclude.txt").write_text("\ufeff" + "\n".join(FAULTS), encoding="utf-8")
    excluded = listed(tmp_path, BAD, exclude=str(tmp_path / "exclude.txt"))
    assert not excluded.all_faults() and excluded.parts["train"].ids == dropped.parts["train"].ids
    assert set(FAULTS) <= excluded.dropped_ids


def splits_of(folder, content, **fields):
    data = Data(source=f"csv:{folder / 't.csv'}", validation=0.2, test=0.2, **fields)
    return build_splits(listed(folder, content, **fields), data, seed=0)


RARE = CSV + "once,rare\ntwice 1,scarce\ntwice 2,scarce\n"


def test_a_rare_class_is_kept_in_train_or_left_out(tmp_path):
    with pytest.raises(DataError, match=r"'rare' \(1\), 'scarce' \(2\).*rare_classes=train"):
        splits_of(tmp_path, RARE)
    plain = splits_of(tmp_path, CSV)
    kept = splits_of(tmp_path, RARE, rare_classes="train")
    assert kept.info.class_names == ("bad", "good", "rare", "scarce")
    assert kept.info.counts["train"][2:] == (1, 2)
    assert kept.info.counts["test"][2:] == kept.info.counts["validation"][2:] == (0, 0)
    assert "stay in the training split: 'rare' (1), 'scarce' (2)" in kept.info.facts["notes"][-1]
    dropped = splits_of(tmp_path, RARE, rare_classes="drop")
    assert dropped.info.class_names == ("bad", "good")
    assert dropped.as_json()["ids"] == plain.as_json()["ids"]
    assert dropped.info.facts["dropped"]["of rare classes"] == 3
    assert set(np.concatenate([split.labels for split in dropped.by_name().values()])) == {0, 1}


def test_a_rare_class_may_be_excluded(tmp_path):
    exclude = tmp_path / "exclude.txt"
    exclude.write_text("train[20]\ntrain[21]\ntrain[22]\ntrain[3]\n")
    splits = splits_of(tmp_path, RARE, exclude=str(exclude))
    plain = splits_of(tmp_path, CSV)
    assert splits.info.class_names == ("bad", "good")
    for name, split in splits.by_name().items():
        expected = [id_ for id_ in getattr(plain, name).ids if id_ != "train[3]"]
        assert list(split.ids) == expected
    assert "All examples of these classes are excluded: 'rare', 'scarce'." in notes_of(splits.info)
    exclude.write_text("train[20]\ntrain[21]\n")
    with pytest.raises(DataError, match=r"Too small: 'scarce' \(1\)"):
        splits_of(tmp_path, RARE, exclude=str(exclude))


def test_classes_of_other_splits_that_cannot_be_learned_are_left_out(tmp_path):
    table = "text,label,split\n" + "".join(f"{row},train\n" for row in ROWS)
    table += "u,good,test\nv,bad,test\nw,new,test\n"
    with pytest.raises(DataError, match="classes without training examples: 'new'"):
        splits_of(tmp_path, table)
    splits = splits_of(tmp_path, table, rare_classes="drop")
    assert splits.info.class_names == ("bad", "good") and splits.info.sizes["test"] == 2
    with pytest.raises(DataError, match=r"at least 2 classes\..* there remain: 'good'"):
        one = "".join(f"t{n},good\n" for n in range(20))
        splits_of(tmp_path, f"text,label\n{one}a,x\n", rare_classes="drop")
    with pytest.raises(DataError, match=r"no examples to train on.*Dropped: 2 of rare classes"):
        splits_of(tmp_path, "text,label\na,x\nb,y\n", rare_classes="drop")


@pytest.mark.parametrize("word", ["Testing", "holdout", "hold-out", "test_set", " TEST ", "tst"])
def test_words_for_splits_are_known(tmp_path, word):
    rows = "".join(f"{row},Training\n" for row in ROWS)
    listing = listed(tmp_path, f"text,label,split\n{rows}u,good,{word}\nv,bad,{word}\n")
    assert {name: len(part.ids) for name, part in listing.parts.items()} == {"train": 20, "test": 2}


def test_other_words_for_splits_are_listed_with_their_counts(tmp_path):
    table = "text,label,split\n" + "".join(f"{row},train\n" for row in ROWS) + "a,good,fold 3\n"
    (fault,) = listed(tmp_path, table).all_faults()
    assert "'fold 3' (1)" in fault and "train[20] (line 22)" in fault
    listing = listed(tmp_path, table, on_fault="drop")
    assert listing.facts["dropped"]["in no known split"] == 1


@pytest.mark.parametrize("labels", ["no column", "blank", "NA"])
def test_a_split_without_labels_is_left_out_with_a_note(tmp_path, labels):
    (tmp_path / "train.csv").write_text(CSV)
    column, value = {"no column": ("text", "u"), "blank": ("text,label", "u,")}.get(
        labels, ("text,label", "u,NA")
    )
    (tmp_path / "test.csv").write_text(f"{column}\n{value}\n")
    listing = listed_data(Data(source=f"csv:{tmp_path}"))
    assert listing.parts.keys() == {"train"} and not listing.all_faults()
    assert "was dropped" in notes_of(listing) and "test" in notes_of(listing)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("\"['a', 'b']\"", ["a", "b"]),
        ('"[""a"", ""b""]"', ["a", "b"]),
        ("\"['a' 'b']\"", ["a", "b"]),
        ("\"('b', 'a')\"", ["a", "b"]),
        ("\"{'a', 'b c'}\"", ["a", "b c"]),
        ('"[a, b c]"', ["a", "b c"]),
        ('"[1 2]"', ["1", "2"]),
        ('"[\'it\\\'s\', ""a,b""]"', ["a,b", "it's"]),
        ("[]", []),
        ("['a']", ["a"]),
    ],
)
def test_lists_are_read_as_python_numpy_and_json_write_them(tmp_path, written, expected):
    listing = listed(tmp_path, f"text,label\nt0,{written}\nt1,[]\nt2,[a]\nt3,\n", MULTI)
    assert labels_of(listing)["train[0]"] == expected
    assert "Labels were read as lists" in notes_of(listing)


def test_brackets_of_some_labels_are_part_of_their_names(tmp_path):
    listing = listed(tmp_path, 'text,label\nt0,"[removed], a"\nt1,[removed]\nt2,b\n', MULTI)
    assert listing.class_names == ("[removed]", "a", "b")
    (fault,) = listed(tmp_path, "text,label\nt0,[[a]]\nt1,[b]\n", MULTI).all_faults()
    assert "must have a list of names as their label: train[0] (line 2, '[[a]]')" in fault


ONE_HOT = "text,toxic,insult,threat\nt0,1,0,1\nt1,0,0,0\nt2,1.0,0.0,False\nt3,-1,-1,-1\nt4,0,1,0\n"


@pytest.mark.parametrize("label", [("toxic", "insult", "threat"), "toxic,insult,threat", (1, 2, 3)])
def test_columns_of_0_and_1_are_labels_when_they_are_named(tmp_path, label):
    with pytest.raises(DataError, match=r"data\.columns\.label=toxic,insult,threat"):
        listed(tmp_path, ONE_HOT, MULTI)
    listing = listed(tmp_path, ONE_HOT, MULTI, columns={"label": label})
    assert labels_of(listing) == {
        "train[0]": ["threat", "toxic"],
        "train[1]": [],
        "train[2]": ["toxic"],
        "train[4]": ["insult"],
    }
    assert listing.facts["dropped"]["without a label"] == 1
    (fault,) = listed(tmp_path, ONE_HOT + "t5,2,0,0\n", MULTI, columns={"label": label}).faults
    assert "other than 0 and 1: train[5] (line 7, 'toxic' is '2')" in fault


def test_columns_of_0_and_1_may_be_one_class_each(tmp_path):
    columns = {"label": ("toxic", "insult", "threat")}
    listing = listed(tmp_path, ONE_HOT.replace("t0,1,0,1", "t0,0,0,1"), columns=columns)
    assert labels_of(listing) == {
        "train[0]": "threat",
        "train[2]": "toxic",
        "train[4]": "insult",
    }
    assert (
        "must have one label each: train[0]" in listed(tmp_path, ONE_HOT, columns=columns).faults[0]
    )


@pytest.mark.parametrize("separator", ["|", ";", " ", "\t", "/"])
def test_any_separator_is_read_and_hinted_at(tmp_path, separator):
    labels = ["a", f"a{separator}b", "b", f"b{separator} c"] * 5
    rows = "".join(f't{n},"{label}"\n' for n, label in enumerate(labels))
    listing = listed(tmp_path, f"text,label\n{rows}", MultiLabelKind(separator))
    assert listing.class_names == ("a", "b", "c") and not notes_of(listing)
    hint = notes_of(listed(tmp_path, f"text,label\n{rows}", MULTI))
    assert f"10 of 20 labels hold {separator!r}" in hint
    assert f"--set=task.label_separator={separator!r}" in hint


def test_names_that_hold_blanks_are_no_reason_for_a_hint(tmp_path):
    rows = "".join(f"t{n},{['very good', 'so so', 'bad'][n % 3]}\n" for n in range(9))
    assert not notes_of(listed(tmp_path, f"text,label\n{rows}", MULTI))


@pytest.mark.parametrize("kind", [SingleLabelKind(), MULTI])
@pytest.mark.parametrize("pair", [("Pos", "pos"), ("1", "1.0"), ("so so", "So_So"), ("a b", "ab")])
def test_classes_that_differ_only_in_spelling_are_named_and_not_merged(tmp_path, kind, pair):
    labels = [*pair, pair[0], "other"]
    rows = "".join(f"t{n},{label}\n" for n, label in enumerate(labels))
    listing = listed(tmp_path, f"text,label\n{rows}", kind)
    assert listing.class_names == tuple(sorted({*pair, "other"}))
    assert f"only in spelling: {pair[0]!r} (2) and {pair[1]!r} (1)." in notes_of(listing)


@pytest.fixture
def reviews(tmp_path):
    """A folder like IMDB's."""
    for split in ("train", "test"):
        for label in ("pos", "neg"):
            for number in range(3):
                file = tmp_path / "aclImdb" / split / label / f"{number}_7.txt"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{split} {label} {number}")
    (tmp_path / "aclImdb" / "train" / "unsup").mkdir()
    (tmp_path / "aclImdb" / "train" / "unsup" / "0_0.txt").write_text("no label")
    (tmp_path / "aclImdb" / "train" / "pos" / "counts.feat").write_text("1:1")
    (tmp_path / "aclImdb" / "README").write_text("read me")
    (tmp_path / "__MACOSX").mkdir()
    return tmp_path


@pytest.mark.parametrize("inside", ["aclImdb", ""])
def test_a_folder_with_a_subfolder_per_class_is_read(reviews, inside):
    listing = listed_data(Data(source=f"folder:{reviews / inside}"))
    assert {name: len(part.ids) for name, part in listing.parts.items()} == {"train": 6, "test": 6}
    prefix = "" if inside else "aclImdb/"
    assert labels_of(listing, "test")[f"{prefix}test/neg/1_7.txt"] == "neg"
    notes = notes_of(listing)
    assert "without a label were not read: train/unsup/." in notes and "1 x .feat" in notes
    assert ("one level deeper, in aclImdb/" in notes) == (not inside)
    assert not listing.all_faults()


def test_a_folder_of_classes_and_files_that_cannot_be_decoded(reviews):
    folder = reviews / "aclImdb" / "train"
    (folder / "neg" / "9.txt").write_bytes(b"caf\xe9")
    (fault,) = listed_data(Data(source=f"folder:{folder}")).all_faults()
    assert "cannot be decoded: neg/9.txt" in fault and "encoding=cp1252" in fault
    assert (
        len(listed_data(Data(source=f"folder:{folder}", encoding="cp1252")).parts["train"].ids) == 7
    )
    dropped = listed_data(Data(source=f"folder:{folder}", on_fault="drop"))
    assert dropped.facts["dropped"]["that cannot be decoded"] == 1
    (reviews / "link").symlink_to("aclImdb/test/pos")
    (folder / "linked").symlink_to("../../link")
    with pytest.raises(DataError, match=r"lead out of.*data\.outside=true"):
        listed_data(Data(source=f"folder:{folder}", on_fault="drop"))
    with pytest.raises(DataError, match=r"one subfolder of \.txt files per class"):
        listed_data(Data(source=f"folder:{reviews / '__MACOSX'}"))
    (reviews / "aclImdb" / "testing").mkdir()
    (reviews / "aclImdb" / "testing" / "pos").mkdir()
    with pytest.raises(DataError, match=r"one folder per split.*test, testing"):
        listed_data(Data(source=f"folder:{reviews / 'aclImdb'}"))


TEXTS = [f"t{n}" for n in range(12)]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([True, False] * 6, ("False", "True")),
        ([1, 0] * 6, ("0", "1")),
        (np.array([1, 0] * 6), ("0", "1")),
        (np.array(["b", "a"] * 6), ("a", "b")),
        (np.array([True, False] * 6), ("False", "True")),
        (np.array([1.0, 0.0] * 6, np.float32), ("0", "1")),
        (("b", "a") * 6, ("a", "b")),
    ],
)
def test_labels_in_memory_may_be_of_any_plain_type(labels, names):
    for texts in (TEXTS, np.array(TEXTS), np.array(TEXTS, object), tuple(TEXTS)):
        listing = listed_data(Data(source=Texts((texts, labels))))
        assert listing.class_names == names and len(listing.parts["train"].ids) == 12


def test_columns_of_a_data_frame_are_texts_and_labels():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": [*TEXTS, None], "label": ["a", "b"] * 6 + [pandas.NA]})
    listing = listed_data(Data(source=Texts((frame["text"], frame["label"]))))
    assert listing.class_names == ("a", "b")
    assert listing.facts["dropped"]["without a label"] == 1
    with pytest.raises(DataError, match=r"pass \(frame\['text'\], frame\['label'\]\)"):
        listed_data(Data(source=Texts(frame)))


def test_missing_labels_and_texts_in_memory_are_dropped_and_counted():
    texts = [*TEXTS, "x", "y", None, float("nan")]
    source = Texts((texts, [*["a", "b"] * 6, None, float("nan"), "a", "b"]))
    facts = listed_data(Data(source=source)).facts
    assert facts["dropped"]["without a label"] == 2 and facts["dropped"]["empty"] == 2


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ((TEXTS, ["a"] * 11), "12 texts and 11 labels"),
        ((TEXTS, None), "Received as labels: a NoneType"),
        ("texts", "Received: a str"),
        ([(text, "a") for text in TEXTS], "two lists of equal length. Received: a list of 12"),
        (("one text", "a" * 8), "Received as texts: a str"),
        (({"a": 1}, ["b"]), "Received as texts: a dict"),
        (([b"bytes", "x"], ["a", "b"]), r"must be strings or pairs of strings\. .*a bytes"),
        (([3, "x"], ["a", "b"]), r"must be strings or pairs of strings\. .*: 3, a int"),
        (([("a", "b"), "x"], ["a", "b"]), "all strings or all pairs"),
        ((np.array("x"), ["a"]), "Received as texts: a ndarray"),
    ],
)
def test_what_is_no_list_of_texts_and_labels_is_refused(split, said):
    source = Texts(split)
    assert repr(source)
    with pytest.raises(DataError, match=said):
        listed_data(Data(source=source))


def test_an_unlabelled_source_takes_all_rows(tmp_path):
    from sft_keras.tasks.masked_lm.source import list_unlabelled_texts

    (tmp_path / "t.csv").write_text("text;label\na;\nb;x\n")
    data = Data(source=f"csv:{tmp_path / 't.csv'}")
    listing = list_unlabelled_texts(data, Clean(), seed=0)
    assert len(listing.parts["train"].ids) == 2 and "semicolons" in notes_of(listing)
    (tmp_path / "t.txt").write_bytes("caf\u00e9\r\nx".encode("cp1252"))
    data = Data(source=f"texts:{tmp_path / 't.txt'}")
    with pytest.raises(DataError, match=r"Line 1 .*data\.encoding=cp1252"):
        list_unlabelled_texts(data, Clean(), seed=0)
    data = dataclasses.replace(data, encoding="cp1252")
    assert len(list_unlabelled_texts(data, Clean(), seed=0).parts["train"].ids) == 2
    (tmp_path / "training.txt").write_text("a")
    (tmp_path / "train.txt").write_text("a")
    with pytest.raises(DataError, match=r"one file per split.*train\.txt, training\.txt"):
        list_unlabelled_texts(Data(source=f"texts:{tmp_path}"), Clean(), seed=0)
