import dataclasses

import pytest

from sft_keras import Data
from sft_keras.core.errors import DataError
from sft_keras.vision.sources.open import open_data


@pytest.fixture
def table(tmp_path, write_folders):
    write_folders(tmp_path / "images", {"a": 8, "b": 8})

    def write(rows, encoding="utf-8"):
        path = tmp_path / "table.csv"
        path.write_text("\n".join(rows) + "\n", encoding=encoding)
        return Data(source=f"csv:{path}", validation=0.2, test=0.2)

    return write


def _rows(split=""):
    return [f"images/{name}/{n:03}.png,{name}{split}" for name in "ba" for n in range(8)]


def test_rows_become_examples_relative_to_the_table(table, tmp_path):
    splits = open_data(table(["path,label", *_rows()]), seed=0)
    assert splits.info.class_names == ("a", "b")
    assert sum(splits.info.sizes.values()) == 16
    for each, label in zip(splits.train.ids, splits.train.labels):
        assert each.split("/")[1] == splits.info.class_names[label]
    example = next(splits.train.stream(None).as_numpy_iterator())
    assert example["image"] == (tmp_path / splits.train.ids[0]).read_bytes()


def test_the_split_column_is_kept(table):
    rows = [
        *_rows(",train")[:6],
        *_rows(",train")[8:14],
        *_rows(",Val")[6:7],
        *_rows(",val")[14:15],
    ]
    rows += [*_rows(",test")[7:8], *_rows(",test")[15:]]
    splits = open_data(table(["path,label,split", *rows]), seed=0)
    assert splits.info.sizes == {"train": 12, "validation": 2, "test": 2}
    assert set(splits.info.origin.values()) == {"from the source"}


def test_a_byte_order_mark_blanks_and_further_columns_do_no_harm(table):
    rows = [f"{row} , 7" for row in _rows()]
    splits = open_data(table(["path, label , id", *rows], encoding="utf-8-sig"), seed=0)
    assert splits.info.class_names == ("a", "b")


def test_missing_columns_are_named_with_those_there_are(table):
    with pytest.raises(DataError) as caught:
        open_data(table(["paths,klass", "x,y"]), seed=0)
    assert "Missing: path, label. Received: paths, klass." in str(caught.value)
    assert "Did you mean 'paths'?" in str(caught.value)


def test_faults_of_the_rows_are_listed_at_once(table):
    gone = [f"images/a/gone{n}.png,a,train" for n in range(12)]
    wrong = ["images/a/000.png,a,train", "images/b/000.png,b,fold9", "images/a/001.png,,train"]
    with pytest.raises(DataError) as caught:
        open_data(table(["path,label,split", *_rows(",train"), *gone, *wrong]), seed=0)
    message = str(caught.value)
    assert "12 files do not exist: images/a/gone0.png (line 18)" in message
    assert "gone9.png (line 27) and 2 more" in message
    assert "gone10" not in message
    assert "--set=data.on_fault=drop" in message
    assert "Received: 'fold9'" in message
    assert "Files listed with different splits: images/b/000.png (fold9 and train)" in message


def test_a_table_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(DataError, match="must name"):
        open_data(Data(source=f"csv:{tmp_path / 'none.csv'}"), seed=0)
    (tmp_path / "latin.csv").write_bytes("path,label\nä,b\n".encode("latin-1"))
    with pytest.raises(DataError, match="cp1252"):
        open_data(Data(source=f"csv:{tmp_path / 'latin.csv'}"), seed=0)
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(DataError, match="Received: none"):
        open_data(Data(source=f"csv:{tmp_path / 'empty.csv'}"), seed=0)


def test_one_file_is_one_example_and_two_labels_are_a_fault(table):
    twice = [*_rows(), "./images/a/000.png,a", "images/../images/b/001.png,b"]
    splits = open_data(table(["path,label", *twice]), seed=0)
    assert sum(splits.info.sizes.values()) == 16
    assert "2 rows repeat a file and were read once." in splits.info.facts["notes"]
    with pytest.raises(DataError, match=r"with different labels: images/a/000.png \(a and b\)"):
        open_data(table(["path,label", *_rows(), "./images/a/000.png,b"]), seed=0)


def test_columns_are_found_by_common_names_or_named(table):
    splits = open_data(table(["Filename,Class", *_rows()]), seed=0)
    assert splits.info.class_names == ("a", "b")
    rows = [f"{number},{row}" for number, row in enumerate(_rows())]
    data = table(["n,photo,kind", *rows])
    with pytest.raises(DataError, match=r"Missing: path, label.*|--set=data.columns.image"):
        open_data(data, seed=0)
    named = dataclasses.replace(data, columns={"image": "photo", "label": "kind"})
    assert open_data(named, seed=0).train.ids == splits.train.ids


def test_paths_without_endings_and_with_backslashes_are_found(table, tmp_path):
    expected = open_data(table(["path,label", *_rows()]), seed=0)
    bare = [row.replace(".png", "") for row in _rows()]
    found = open_data(table(["path,label", *bare]), seed=0)
    assert found.train.ids == expected.train.ids
    assert "16 paths of table.csv lacked the file's ending." in found.info.facts["notes"]
    backslashes = [row.replace("/", chr(92)) for row in _rows()]
    assert open_data(table(["path,label", *backslashes]), seed=0).train.ids == expected.train.ids
    (tmp_path / "images" / "a" / "000.jpg").write_bytes(b"another file of that name")
    with pytest.raises(DataError, match=r"1 files do not exist: images/a/000 \(line 10\)"):
        open_data(table(["path,label", *bare]), seed=0)


def test_missing_files_are_dropped_or_excluded_and_rows_without_a_label_counted(table, tmp_path):
    rows = ["path,label", *_rows(), "images/a/gone.png,a", "images/a/other.png,"]
    dropping = dataclasses.replace(table(rows), on_fault="drop")
    info = open_data(dropping, seed=0).info
    assert sum(info.sizes.values()) == 16
    assert info.facts["dropped"] == {"with a missing file": 1, "without a label": 1}
    assert any("images/a/gone.png" in note for note in info.facts["notes"])
    (tmp_path / "exclude.txt").write_text("images/a/gone.png\n")
    excluding = dataclasses.replace(table(rows), exclude=str(tmp_path / "exclude.txt"))
    assert sum(open_data(excluding, seed=0).info.sizes.values()) == 16


def test_a_folder_of_tables_has_a_split_per_file(tmp_path, write_folders):
    write_folders(tmp_path / "images", {"a": 8, "b": 8})
    rows = _rows()
    for name, chosen in (("train", rows[:6] + rows[8:14]), ("test", rows[6:8] + rows[14:])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,label", *chosen]))
    sizes = open_data(Data(source=f"csv:{tmp_path}", validation=0.2), seed=0).info.sizes
    assert sizes["test"] == 4 and sizes["train"] + sizes["validation"] == 12
