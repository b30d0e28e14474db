"""Labelled texts from tables, lists and tensorflow-datasets: read, cleaned, split, or refused."""

import json

import numpy as np
import pytest
import tensorflow as tf

from sft_keras import Data, Recipe, Texts
from sft_keras.core.errors import DataError, RecipeError
from sft_keras.tasks import Clean, TextClassification
from sft_keras.tasks.base import build_task
from sft_keras.text.cleaning import clean_text

ROWS = [(f"text number {n}", "good" if n % 2 else "bad") for n in range(20)]


def splits_of(source, clean=None, **data):
    task = TextClassification(clean=clean or Clean())
    recipe = Recipe(
        task=task, data=Data(source=source, **data), backbone=None, stages=(), cache="off"
    )
    return build_task(recipe).open_data(0)


def texts_of(examples):
    return [
        tuple(text.decode() for text in example["texts"].numpy())
        for example in examples.stream(None)
    ]


def write(file, rows, columns=("text", "label")):
    """Writes a table in the format that its name says."""
    if file.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(columns, row))) for row in rows]
    else:
        mark = "," if file.suffix == ".csv" else "\t"
        lines = [mark.join(map(str, row)) for row in (columns, *rows)]
    if file.suffix == ".parquet":
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist([dict(zip(columns, row)) for row in rows]), file)
    else:
        file.write_text("\n".join(lines), encoding="utf-8")
    return f"{file.suffix[1:]}:{file}"


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_is_read_and_split(tmp_path, kind):
    splits = splits_of(write(tmp_path / f"table.{kind}", ROWS))
    assert splits.info.class_names == ("bad", "good")
    assert splits.info.sizes == {"train": 16, "validation": 2, "test": 2}
    everything = {}
    for examples in (splits.train, splits.validation, splits.test):
        labels = [splits.info.class_names[label] for label in examples.labels]
        everything |= dict(zip([text for (text,) in texts_of(examples)], labels))
    assert everything == dict(ROWS)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_folder_of_tables_has_its_own_splits(tmp_path, kind):
    for name, rows in (
        ("train", ROWS[:12]),
        ("val", ROWS[12:16]),
        ("test", ROWS[16:]),
    ):
        write(tmp_path / f"{name}.{kind}", rows)
    splits = splits_of(f"{kind}:{tmp_path}")
    assert splits.info.sizes == {"train": 12, "validation": 4, "test": 4}
    assert texts_of(splits.validation) == [(text,) for text, _ in ROWS[12:16]]


def test_a_column_says_the_split_and_others_are_named_by_the_recipe(tmp_path):
    rows = [(f"q{n}", f"a{n}", n % 2, ("train", "dev", "test")[min(n // 6, 2)]) for n in range(12)]
    rows += [("q98", "a98", 0, "test"), ("q99", "a99", 1, "test")]
    source = write(tmp_path / "t.csv", rows, ("question", "answer", "right", "part"))
    columns = {"text": "question", "text_pair": "answer", "label": "right", "split": "part"}
    splits = splits_of(source, columns=columns)
    assert splits.info.sizes == {"train": 6, "validation": 6, "test": 2}
    assert texts_of(splits.test) == [("q98", "a98"), ("q99", "a99")]
    assert splits.info.class_names == ("0", "1")
    assert splits.info.facts["texts"] == 2


def test_numbers_as_labels_are_in_their_order():
    texts = [f"t{n}" for n in range(60)]
    splits = splits_of(Texts((texts, [n % 12 for n in range(60)])))
    assert splits.info.class_names == tuple(map(str, range(12)))


def test_lists_may_hold_pairs_and_their_own_splits():
    pairs = [(f"a{n}", f"b{n}") for n in range(8)]
    splits = splits_of(Texts((pairs, "xyxyxyxy"), (pairs[:2], "xy"), (pairs[2:4], "xy")))
    assert splits.info.sizes == {"train": 4, "validation": 2, "test": 2}
    assert splits.info.facts["dropped"]["in another split"] == 4
    assert texts_of(splits.validation) == pairs[:2]


@pytest.mark.parametrize(
    ("clean", "text", "expected"),
    [
        ({}, "<p>Fish &amp;\n chips</p><br/>now", "Fish & chips now"),
        ({}, "a < b and c > d, <3", "a < b and c > d, <3"),
        ({}, "x<!-- no\nsuch -->y", "x y"),
        ({"html": False}, "a  &amp; <b>", "a &amp; <b>"),
        ({"whitespace": False}, " a\u00a0 b ", " a\u00a0 b "),
        ({}, "cafe\u0301", "caf\u00e9"),
        ({"unicode": "NFKC"}, "\ufb01lm\u2460", "film1"),
        ({"unicode": None}, "cafe\u0301", "cafe\u0301"),
    ],
)
def test_texts_are_cleaned_as_the_recipe_says(clean, text, expected):
    assert clean_text(text, Clean(**clean)) == expected


def test_what_is_dropped_is_counted():
    texts = [f"t{n}" for n in range(12)]
    train = [*texts, "t0", "<p> </p>", "t1"]
    labels = ["x", "y"] * 6
    splits = splits_of(
        Texts((train, [*labels, "x", "x", "x"]), (["v", "w", "t2"], "xyx"), (["s", "u"], "xy"))
    )
    # t1 with another label stays: which of the two is right is not for a machine to say.
    assert splits.info.facts["dropped"] == {"empty": 1, "duplicate": 1, "in another split": 1}
    assert splits.info.sizes == {"train": 12, "validation": 3, "test": 2}
    kept = splits_of(Texts((train, [*labels, "x", "x", "x"])), Clean(duplicates=False))
    assert sum(kept.info.sizes.values()) == 14


def test_random_order_depends_on_the_seed_alone():
    splits = splits_of(Texts(([f"t{n}" for n in range(30)], ["x", "y"] * 15)))
    seed = tf.constant([1, 2], tf.int64)
    orders = [[int(each["index"]) for each in splits.train.stream(seed)] for _ in range(2)]
    assert orders[0] == orders[1] != sorted(orders[0])
    for example in splits.train.stream(seed):
        assert texts_of(splits.train)[int(example["index"])][0].encode() == example["texts"][0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.csv",
            "txt,label\nx,y\n",
            r"Missing: text\. Received: txt, label\. Did you mean 'txt'",
        ),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text"\n', r"not JSON: train\[1\] \(line 2"),
        ("a.jsonl", '["x"]\n', r"not JSON objects: train\[0\] \(row 1, 'x'\)"),
        ("a.jsonl", '["x"\n3\n', r"not JSON objects: train\[1\] \(line 2, '3'\)"),
        ("a.parquet", b"PAR0", r"must be a Parquet file"),
        ("a.csv", "text,label\n", r"Received: none"),
        ("a.csv", "text,label\nx1,\nx2,NaN\n", r"no examples to train on"),
        ("a.csv", "text,label,split\nx,a,training\ny,b,bogus\n", r"must hold one of .*'bogus'"),
    ],
)
def test_a_table_that_will_not_do_is_refused_with_the_place(tmp_path, name, content, said):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=said):
        splits_of(f"{file.suffix[1:]}:{file}")


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_text_may_be_a_megabyte_long_and_hold_a_nul(tmp_path, kind):
    texts = [f"a\0{number}" for number in range(19)] + ["word " * 200_000]
    source = write(tmp_path / f"a.{kind}", [(text, "xy"[len(text) % 2]) for text in texts])
    splits = splits_of(source)
    found = [*texts_of(splits.train), *texts_of(splits.validation), *texts_of(splits.test)]
    assert sorted(found) == sorted((text.strip(),) for text in texts)


def test_a_folder_without_a_training_table_says_what_it_holds(tmp_path):
    write(tmp_path / "test.csv", ROWS)
    with pytest.raises(DataError, match=r"must have a train\.csv.*holds test\.csv"):
        splits_of(f"csv:{tmp_path}")


def test_lists_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"as many labels as texts. Received: 1 texts and 2"):
        splits_of(Texts((["a"], ["x", "y"])))
    with pytest.raises(DataError, match=r"must be strings or pairs of strings. Received: 3"):
        splits_of(Texts((["a", 3], ["x", "y"])))
    with pytest.raises(DataError, match=r"all strings or all pairs. Received: both"):
        splits_of(Texts((["a", ("b", "c")], ["x", "y"])))


def test_a_column_that_nothing_reads_is_a_fault():
    faults = Data(source="csv:x", columns={"txt": "a"}).faults()
    assert faults == [
        "The keys of `data.columns` must be among text, text_pair, image, label, split. "
        "Received: 'txt'. Did you mean 'text'?"
    ]
    with pytest.raises(RecipeError, match=r"no field 'column'\. Did you mean 'columns'"):
        Data(source="csv:x", column={})


@pytest.fixture(scope="module")
def stored_sets(tmp_path_factory):
    """Sets of tensorflow-datasets: one like SST-2, whose test split has no labels, and of pairs."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds_texts")
    label = tfds.features.ClassLabel(names=["no", "yes"])
    kinds = {"single": ("sentence",), "double": ("premise", "hypothesis")}
    for name, keys in kinds.items():
        features = tfds.features.FeaturesDict(
            {**{key: tfds.features.Text() for key in keys}, "label": label}
        )
        datasets = {}
        for split, count in (("train", 20), ("validation", 6), ("test", 4)):
            columns = {key: [f"{key} {split} {n}" for n in range(count)] for key in keys}
            labels = np.arange(count) % 2 if split != "test" else np.full(count, -1)
            datasets[split] = tf.data.Dataset.from_tensor_slices({**columns, "label": labels})
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=features,
            split_datasets=datasets,
            data_dir=folder,
            disable_shuffling=True,
        )
    return str(folder)


def test_a_set_of_texts_is_read_and_a_split_without_labels_left_out(stored_sets):
    splits = splits_of("tfds:single", data_dir=stored_sets)
    assert splits.info.class_names == ("no", "yes")
    assert splits.info.sizes == {"train": 18, "validation": 6, "test": 2}
    assert texts_of(splits.validation)[:2] == [
        ("sentence validation 0",),
        ("sentence validation 1",),
    ]
    assert splits.validation.labels.tolist() == [0, 1] * 3


def test_of_a_set_with_several_texts_the_recipe_says_which(stored_sets):
    with pytest.raises(
        DataError, match=r"must have one Text.*hypothesis \(Text\), label.*premise \(Text\)"
    ):
        splits_of("tfds:double", data_dir=stored_sets)
    columns = {"text": "premise", "text_pair": "hypothesis"}
    splits = splits_of("tfds:double", data_dir=stored_sets, columns=columns)
    assert texts_of(splits.validation)[0] == ("premise validation 0", "hypothesis validation 0")


@pytest.mark.parametrize("label", [0, "stars"])
def test_columns_are_found_by_position(tmp_path, label):
    source = write(tmp_path / "t.csv", [row[::-1] for row in ROWS], ("stars", "review"))
    splits = splits_of(source, columns={"text": 1, "label": label})
    assert splits.info.class_names == ("bad", "good")
    with pytest.raises(DataError, match=r"Missing: column 2\. Received: stars, review"):
        splits_of(source, columns={"text": 2, "label": 0})
