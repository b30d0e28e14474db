"""Hostile files, drawn by hypothesis, and what is allowed to come of reading them.

`READERS` names them all: what draws the content of a file, and what reads it. Used by
tests/test_fuzz_readers.py and benchmarks/fuzz.py.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from hypothesis import strategies as st
from PIL import Image

from sft_keras import Data
from sft_keras.check.image_files import _header
from sft_keras.core.errors import DataError, numbered
from sft_keras.data.splits import split_faults
from sft_keras.data.tables import read_tables
from sft_keras.tasks import Clean
from sft_keras.tasks.question_answering.source import list_questions
from sft_keras.tasks.token_classification.source import list_tagged_sentences
from sft_keras.text.labels import LabelKind, MultiLabelKind, NumericLabelKind, SingleLabelKind
from sft_keras.text.sources.texts import list_texts
from sft_keras.vision.decode import decode_image
from sft_keras.vision.faults import undecodable_reason
from sft_keras.vision.sources.csv import list_csv

SQUARE = 12  # pixels, the sides of an image

_DEEP = 100_000
_TREATS = (
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xed\xa0\x80",  # a lone surrogate, as no UTF-8 has it
    b"\\ud83d",
    b"\r",
    b"\n\n",
    b"\x0c",
    b'"',
    b"'",
    b",",
    b"\t",
    b" ",
    b"-",
    b"--1",
    b"B-",
    b"I-",
    b"E-X",
    b"#",
    b"NaN",
    b"1e999",
    b"-Infinity",
    b"9" * 400,
    b"9" * 5000,
    b"&#" + b"9" * 5000 + b";",
    b"<!--",
    b"-->",
    b"../",
    b"/etc/hostname",
    b"x" * 300,
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"[" * _DEEP,
    b'{"a":' * _DEEP,
    b"[" * 40 + b"]" * 40,
    "\N{COMBINING ACUTE ACCENT}\N{RIGHT-TO-LEFT OVERRIDE}\N{LINE SEPARATOR}".encode(),
    b"\xff" * 4,
    b"\xff" * 8,
    b"\x80\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\0" * 40,
)


@dataclasses.dataclass(frozen=True)
class Reader:
    """How one kind of file is drawn and read.

    Attributes:
      content: Draws the content of a file.
      read: Reads a file's content; returns whether it was accepted. Whatever it raises is a crash.
    """

    content: st.SearchStrategy[bytes]
    read: Callable[[bytes], bool]


@st.composite
def mutated(draw: st.DrawFn, valid: tuple[bytes, ...]) -> bytes:
    """Draws a valid file, changed at some places; or any bytes."""
    content = draw(st.sampled_from((*valid, None)))
    if content is None:
        return draw(st.binary(max_size=200))
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, 3)))):
        content = _changed(content, draw)
    return content


def _changed(content: bytes, draw: st.DrawFn) -> bytes:
    start = draw(st.integers(0, len(content)))
    end = min(len(content), start + draw(st.integers(0, 12)))
    before, chosen, after = content[:start], content[start:end], content[end:]
    change = draw(st.sampled_from(("cut", "delete", "double", "flip", "swap", "put", "line")))
    if change == "cut":
        return before
    if change == "delete":
        return before + after
    if change == "double":
        return before + chosen * draw(st.integers(2, 40)) + after
    if change == "flip":
        return before + bytes(each ^ draw(st.integers(1, 255)) for each in chosen) + after
    if change == "swap":
        return before + after[:12] + chosen + after[12:]
    if change == "line":
        lines = content.split(b"\n")
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(lines)))
        return b"\n".join(lines)
    put = draw(st.sampled_from(_TREATS))
    return before + put + (after if draw(st.booleans()) else content[start + len(put) :])


def _refusing(read: Callable[[Path], None]) -> Callable[[bytes, str], bool]:
    def tried(content: bytes, name: str) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)
            file.write_bytes(content)
            for each in "ab":
                Path(folder, f"{each}.png").write_bytes(b"")
            try:
                read(file)
            except DataError as error:
                assert str(error)
                return False
            return True

    return tried


def _streamed(listing: Any) -> None:
    """Asks a listing for its faults, and if there are none for all that it holds."""
    split_faults(listing)
    faults = listing.all_faults()
    if faults:
        raise DataError(numbered("Faults:", faults))
    for part in listing.parts.values():
        positions = np.arange(len(part.ids))
        if len(positions):
            assert sum(1 for _ in part.stream(positions, None)) == len(positions)


def _texts(kind: str, labels: LabelKind) -> Callable[[bytes], bool]:
    def read(file: Path) -> None:
        for rows in read_tables(kind, str(file)).values():
            assert all(isinstance(row, dict) for row in rows)
        _streamed(list_texts(Data(source=f"{kind}:{file}"), Clean(), labels, 0))

    return functools.partial(_refusing(read), name=f"a.{kind}")


def _table(mark: str) -> tuple[bytes, ...]:
    films = [(f"A film to see {n}.", "good" if n % 2 else "bad") for n in range(8)]
    own_splits = [(*row, "val" if n > 5 else "train") for n, row in enumerate(films)]
    pairs = [(f"t{n}", f"u{n}", str(n % 2)) for n in range(6)]
    numbers = [(f"<b>x{n}</b> &amp; <!-- y -->", str(n - 1.5)) for n in range(5)]
    tables = (
        [("text", "label"), *films],
        [("text", "label", "split"), *own_splits],
        [("text", "text_pair", "label"), *pairs],
        [("label", "text"), *(row[::-1] for row in numbers)],
    )
    return tuple("\n".join(map(mark.join, each)).encode() for each in tables)


_JSON_LINES = tuple(
    "\n".join(map(json.dumps, rows)).encode()
    for rows in (
        [{"text": f"text {n}", "label": n % 2, "split": "train"} for n in range(4)],
        [{"text": f"text {n}", "text_pair": "\u00e9", "label": n / 2} for n in range(4)],
        [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": []}, {"text": "c", "label": 1}],
        [{"text": None, "label": None}, {"text": 3, "label": {"a": 1}}],
    )
)
_IMAGE_TABLE = (
    b"path,label\na.png,cat\nb.png,dog\n",
    b"path,label,split\na.png,cat,train\nb.png,dog,training\n",
    b"\xef\xbb\xbflabel,path\n1,a.png\n01,./b.png\n",
)
_CONLL = (
    b"-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP I-NP B-PER\n",
    b"EU\tB-ORG\nof\tI-ORG\n\nX\tO\n",
    b"# a comment\na S-X\nb B-Y\nc E-Y\n\nd O\n",
    b"a U-X\nb B-Y\nc L-Y\n",
    b"a I-X\nb B-X\n",
)


def _squad(**fields: Any) -> bytes:
    asked = {"id": "1", "question": "Where?", "answers": [{"text": "Rome", "answer_start": 3}]}
    paragraph = {"context": "In Rome, say caf\u00e9.", "qas": [{**asked, **fields}]}
    other = {"context": "b", "qas": [{**asked, "id": 2, "is_impossible": True}]}
    articles = [{"title": "T", "paragraphs": [paragraph, other]}]
    return json.dumps({"version": "v2.0", "data": articles}).encode()


_SQUAD = (_squad(), _squad(answers=[]), _squad(answers=[{"text": "Rome", "answer_start": 2**70}]))


def encoded_images() -> tuple[bytes, ...]:
    """Returns small images of every kind that is decoded."""
    pixels = np.random.default_rng(0).integers(0, 256, (SQUARE, SQUARE, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    other = Image.fromarray(255 - pixels)
    kinds: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "LA", {}),
        ("PNG", "1", {}),
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {"progressive": True}),
        ("JPEG", "CMYK", {}),
        ("GIF", "P", {"comment": b"a comment"}),
        ("GIF", "P", {"save_all": True, "append_images": [other], "duration": 50}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("BMP", "L", {}),
        ("BMP", "RGBA", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGB", {"lossless": True, "icc_profile": b"a profile"}),  # an extended one
    )
    found = []
    for kind, mode, options in kinds:
        file = io.BytesIO()
        image.convert(mode).save(file, kind, **options)
        found.append(file.getvalue())
    return tuple(found)


_decode = tf.function(decode_image, input_signature=[tf.TensorSpec([], tf.string)])


def _read_image(content: bytes) -> bool:
    header = _header(content)
    assert header is None or len(header) == 3
    try:
        pixels = _decode(content)
    except tf.errors.InvalidArgumentError:
        assert undecodable_reason(content)
        return False
    assert undecodable_reason(content) is None
    assert pixels.dtype == tf.uint8 and pixels.shape[2] == 3
    return True


def _reads(read: Callable[[Path], Any], name: str) -> Callable[[bytes], bool]:
    return functools.partial(_refusing(lambda file: _streamed(read(file))), name=name)


READERS: dict[str, Reader] = {
    "texts in CSV": Reader(mutated(_table(",")), _texts("csv", SingleLabelKind())),
    "texts in TSV": Reader(mutated(_table("\t")), _texts("tsv", NumericLabelKind())),
    "texts in JSON lines": Reader(mutated(_JSON_LINES), _texts("jsonl", SingleLabelKind())),
    "several labels in JSON lines": Reader(
        mutated(_JSON_LINES), _texts("jsonl", MultiLabelKind(","))
    ),
    "numbers in JSON lines": Reader(mutated(_JSON_LINES), _texts("jsonl", NumericLabelKind())),
    "images in CSV": Reader(
        mutated(_IMAGE_TABLE), _reads(lambda file: list_csv(str(file)), "a.csv")
    ),
    "CoNLL": Reader(
        mutated(_CONLL),
        _reads(lambda file: list_tagged_sentences(Data(source=f"conll:{file}"), 0), "a.conll"),
    ),
    "SQuAD": Reader(
        mutated(_SQUAD),
        _reads(lambda file: list_questions(Data(source=f"squad:{file}"), 0), "a.json"),
    ),
    "images": Reader(mutated(encoded_images()), _read_image),
}
