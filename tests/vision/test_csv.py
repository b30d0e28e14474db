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
    assert "12 files do not exist: images/a/gone0.png" in message
    assert "gone9.png and 2 more" in message
    assert "gone10" not in message
    assert "Rows without a label: 32" in message
    assert "Received: 'fold9'" in message
    assert "3 paths are listed more than once" in message


def test_a_table_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(DataError, match="must name an existing CSV file"):
        open_data(Data(source=f"csv:{tmp_path / 'none.csv'}"), seed=0)
    (tmp_path / "latin.csv").write_bytes("path,label\nä,b\n".encode("latin-1"))
    with pytest.raises(DataError, match="must be a CSV file in UTF-8"):
        open_data(Data(source=f"csv:{tmp_path / 'latin.csv'}"), seed=0)
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(DataError, match="Received: none"):
        open_data(Data(source=f"csv:{tmp_path / 'empty.csv'}"), seed=0)
