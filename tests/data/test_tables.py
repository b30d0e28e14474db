"""Delimited tables as programs and people write them: read as meant, or the line is named."""

import pytest

from sft_keras import Data
from sft_keras.core.errors import DataError
from sft_keras.data.delimited import sniff_delimiter
from sft_keras.data.tables import BadRow, read_tables

NAMES = ("text", "label")


def table_of(folder, content, kind="csv", name="a", **fields):
    file = folder / f"{name}.{kind}"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_tables(Data(source=f"{kind}:{file}", **fields), NAMES)["train"]


def rows_of(table):
    return [row for row in table.rows if not isinstance(row, BadRow)]


def bad_rows_of(table):
    """Returns {place: reason} of the rows that cannot be read."""
    rows = enumerate(table.rows)
    return {table.place(n): row.reason for n, row in rows if isinstance(row, BadRow)}


@pytest.mark.parametrize("kind", ["csv", "tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_the_delimiter_is_found(tmp_path, kind, delimiter, ending):
    lines = [("text", "label"), *((f"'{n}' is; dull. Or, not", "ab"[n % 2]) for n in range(9))]
    quoted = [[f'"{value}"' if delimiter in value else value for value in row] for row in lines]
    content = ending.join(map(delimiter.join, quoted))
    table = table_of(tmp_path, content, kind)
    assert table.columns == NAMES
    assert rows_of(table) == [list(row) for row in lines[1:]]
    assert table.lines == list(range(2, 11))
    expected = delimiter == {"csv": ",", "tsv": "\t"}[kind]
    assert bool(table.notes) == (not expected)


def test_a_delimiter_that_is_given_wins_over_what_is_found(tmp_path):
    content = "text,label;x\na,b;c\n"
    assert table_of(tmp_path, content).columns == ("text", "label;x")
    assert table_of(tmp_path, content, delimiter=";").columns == ("text,label", "x")
    tabs = content.replace(";", "\t")
    assert table_of(tmp_path, tabs, delimiter="tab").columns == ("text,label", "x")
    assert rows_of(table_of(tmp_path, "sep=;\r\ntext;label\r\na,x;b\r\n")) == [["a,x", "b"]]


def test_names_of_columns_decide_between_delimiters():
    text = "text;label;source, year\nDull;bad;x, 1\nGreat;good;y, 2\n"
    assert sniff_delimiter(text, ",", ["text", "label"]) == ";"
    assert sniff_delimiter(text, ",", ["x", "y"]) == ","
    one_column = "text\n" + "Well; dull | and so on\n" * 9
    assert sniff_delimiter(one_column, ",", ["text"]) == ","


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"), ("utf-32-be", b"\0\0\xfe\xff")],
)
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding, mark):
    content = mark + "text,label\ncaf\u00e9 \U0001f600,b\n".encode(encoding)
    assert rows_of(table_of(tmp_path, content)) == [["caf\u00e9 \U0001f600", "b"]]


@pytest.mark.parametrize(
    ("encoding", "text", "named"),
    [
        ("cp1252", "Le caf\u00e9 \u2013 \u00e0 Paris", "cp1252"),
        ("latin-1", "caf\u00e9\x81", "latin-1"),
        ("cp1251", "\u041e\u0447\u0435\u043d\u044c \u0441\u043a\u0443\u0447\u043d\u043e", "cp1251"),
        ("shift_jis", "\u9000\u5c48\u306a\u6620\u753b\u3067\u3057\u305f", "shift_jis"),
        ("utf-16-le", "plain", "utf-16-le"),
        ("utf-16-be", "plain", "utf-16-be"),
    ],
)
def test_the_likely_encoding_is_named_and_reads_the_file(tmp_path, encoding, text, named):
    content = f"text,label\nplain,a\n{text},b\n".encode(encoding)
    try:
        table = table_of(tmp_path, content)
        (bad,) = [row for row in table.rows if isinstance(row, BadRow)]
        said = f"{bad.reason}, {bad.shown}. {bad.hint}"
        assert bad_rows_of(table) == {"line 3": "that are not in UTF-8"}
    except DataError as error:
        said = str(error)
    assert f"--set=data.encoding={named}" in said
    assert rows_of(table_of(tmp_path, content, encoding=named)) == [["plain", "a"], [text, "b"]]


def test_an_encoding_that_does_not_fit_is_named_with_the_line(tmp_path):
    with pytest.raises(
        DataError, match=r"must be in `data.encoding` 'ascii'\. Line 3 holds .*0xc3"
    ):
        table_of(tmp_path, "text,label\na,b\n\u00e9,c\n", encoding="ascii")
    with pytest.raises(DataError, match=r"must be in UTF-8\. Line 1 .* may be in cp1252, in which"):
        table_of(tmp_path, "t\u00e9xt,label\na,b\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"must be in `data.encoding` 'utf-16'\. Line 1"):
        table_of(tmp_path, b"\xff\xfea", encoding="utf-16")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x1f\x8b\x08\0", "compressed with gzip; unpack"),
        (b"PK\3\4", "ZIP archive; unpack"),
        (b"\xd0\xcf\x11\xe0\xa1", "Excel file; save it as CSV UTF-8"),
    ],
)
def test_what_is_no_text_is_not_blamed_on_its_encoding(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        table_of(tmp_path, content)


LONG = "x" * 200_000


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('"He said ""fine"" today",a', 'He said "fine" today'),
        ('"first\nsecond, third",a', "first\nsecond, third"),
        ('"Great" they said,a', "Great they said"),
        ('He said "fine" today,a', 'He said "fine" today'),
        ('"He said \\"fine, really\\" today",a', 'He said "fine, really" today'),
        (' "blank, before", a', "blank, before"),
        ('"unclosed,a', '"unclosed'),
        (f'"{LONG}",a', LONG),
    ],
)
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_quotes_are_read_as_they_were_meant(tmp_path, line, value, delimiter):
    content = f"text,label\nplain,a\n{line}\nmore,b\n".replace(",", delimiter)
    table = table_of(tmp_path, content, kind={",": "csv", "\t": "tsv"}[delimiter])
    value = value.replace(",", delimiter)
    if delimiter == "\t" and line.startswith('"Great"'):
        value = '"Great" they said'  # a quote that encloses no value is a character in TSV
    assert [[cell.strip() for cell in row] for row in rows_of(table)] == [
        ["plain", "a"],
        [value, "a"],
        ["more", "b"],
    ]


def test_a_quote_that_is_not_closed_is_named_and_loses_no_other_row(tmp_path):
    lines = ["text,label", '"dull, really",neg', '"not closed, really,neg', '"fine, really",pos']
    table = table_of(tmp_path, "\n".join([*lines, '"good, really",pos', ""]))
    assert bad_rows_of(table) == {"line 3": "with a quote that is not closed in its place"}
    (bad,) = [row for row in table.rows if isinstance(row, BadRow)]
    assert bad.shown.startswith("up to line 4, ")
    assert rows_of(table) == [["dull, really", "neg"], ["good, really", "pos"]]


def test_rows_of_another_length_are_named_by_their_line(tmp_path):
    content = 'text,label\n"a\nb",x\nc, d,y\n\n  \ne,z,\nf\ntext,label\n'
    table = table_of(tmp_path, content)
    assert bad_rows_of(table) == {
        "line 4": "with too many values",
        "line 9": "that repeat the header",
    }
    assert rows_of(table) == [["a\nb", "x"], ["e", "z"], ["f"]]
    (long,) = rows_of(table_of(tmp_path, f"text,label\n{LONG},b\n"))
    assert long[0] == LONG
    (bad, *_) = table_of(tmp_path, f"text,label\n{LONG},b,c\n").rows
    assert len(bad.shown) < 120


def test_row_names_without_a_column_name_are_no_values(tmp_path):
    table = table_of(tmp_path, "text,label\n1,dull,bad\n2,fine,good\n")
    assert table.columns == ("column 0", "text", "label")
    assert "no name" in table.notes[0]
    assert table_of(tmp_path, "v1,v2,,\na,b,,\n").columns == ("v1", "v2", "column 2", "column 3")


@pytest.mark.parametrize(
    ("names", "splits", "unread"),
    [
        (("train", "test"), {"train", "test"}, 0),
        (("imdb_train", "imdb_valid"), {"train", "validation"}, 0),
        (("train", "test", "test_labels", "sample_submission"), {"train", "test"}, 2),
        (("Training", "holdout"), {"train", "test"}, 0),
        (("reviews",), {"train"}, 0),
    ],
)
def test_files_are_splits_by_their_names(tmp_path, names, splits, unread):
    for name in names:
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{name},b\n")
    notes = []
    tables = read_tables(Data(source=f"csv:{tmp_path}"), NAMES, notes)
    assert tables.keys() == splits
    assert all("label" not in table.rows[0][0] for table in tables.values())
    assert len(notes) == bool(unread)


@pytest.mark.parametrize("second", ["training", "train_set", "Train Data"])
def test_two_files_for_one_split_are_refused(tmp_path, second):
    for name in ("train", second):
        (tmp_path / f"{name}.csv").write_text("text,label\na,b\n")
    with pytest.raises(DataError, match=rf"one file per split.*{second}\.csv"):
        read_tables(Data(source=f"csv:{tmp_path}"), NAMES)
