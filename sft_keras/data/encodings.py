"""Decode text files, and name the likely encoding of those that are not in UTF-8.

Standard library only.
"""

from __future__ import annotations

import codecs
import re
import zipfile
from pathlib import Path

from sft_keras.core.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark begins it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MANY = 0.25  # share of bytes above 127 in texts of other scripts than the Latin one
_OTHER_SCRIPTS = ("shift_jis", "euc_kr", "gb18030", "big5", "cp1251", "cp1253", "cp1255", "cp1256")
_SAMPLE = 2**16  # bytes
_UNDECODED = re.compile("[\udc80-\udcff]")
_CONTEXT = 20  # bytes on each side of one that cannot be decoded


def read_text(file: Path, encoding: str | None, *, partly: bool = False) -> str:
    """Return the text of a file.

    Args:
      file: The file.
      encoding: As in `Data.encoding`.
      partly: Whether bytes that cannot be decoded are kept, as surrogates (PEP 383), instead of
        raising; see `is_undecoded`. Only in UTF-8.

    Raises:
      DataError: If the file is not text in this encoding; names the likely one.
    """
    content = file.read_bytes()
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    name = encoding or marked or "utf-8"
    if encoding is not None and codecs.lookup(encoding).name == "utf-8":
        name = "utf-8-sig"  # a mark is no part of the text
    if content.startswith((b"PK\3\4", b"\x1f\x8b", b"\xd0\xcf\x11\xe0")):
        raise DataError(f"{file} must be a text file. {_archive(file, content)}")
    if name == "utf-8" and _is_utf_16(content):
        likely = likely_encoding(content)
        raise DataError(
            f"{file} must be in UTF-8. Every other byte of it is 0. It may be in {likely}: "
            f"--set=data.encoding={likely}."
        )
    try:
        return content.decode(name)
    except UnicodeDecodeError as error:
        if partly and name in ("utf-8", "utf-8-sig"):
            return content.decode(name, errors="surrogateescape")
        raise DataError(decoding_fault(file, content, name, error)) from error
    except UnicodeError as error:  # e.g. UTF-16 without a byte order
        raise DataError(
            f"{file} cannot be decoded with `data.encoding` {name!r}: {error}."
        ) from error


def universal_newlines(text: str) -> str:
    """Return a text with the line ends of Windows and old Macs as "\\n"."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_undecoded(text: str) -> bool:
    """Return whether a text holds bytes that `read_text` could not decode."""
    return not text.isascii() and _UNDECODED.search(text) is not None


def decoding_fault(file: Path, content: bytes, name: str, error: UnicodeDecodeError) -> str:
    """Return the message for content that is not in an encoding."""
    start = max(0, error.start - _CONTEXT)
    is_wide = codecs.lookup(name).name.startswith(("utf-16", "utf-32"))
    likely = None if is_wide else likely_encoding(content)
    shown = content[start : error.start + _CONTEXT].split(b"\n")
    before = content[start : error.start].count(b"\n")
    line = content.count(b"\n", 0, error.start) + 1
    hint = "Convert it to UTF-8, or name its encoding with --set=data.encoding=NAME."
    if likely is not None:
        excerpt = shown[min(before, len(shown) - 1)].decode(likely, errors="replace").strip()
        hint = (
            f"It may be in {likely}, in which this line reads {excerpt!r}: "
            f"--set=data.encoding={likely}."
        )
    expected = "UTF-8" if name.startswith("utf-8") else f"`data.encoding` {name!r}"
    return (
        f"{file} must be in {expected}. Line {line} holds the byte {_byte(content, error)}. {hint}"
    )


def likely_encoding(content: bytes) -> str | None:
    """Return the likely encoding of content that is not UTF-8; None if there is no guess."""
    if _is_utf_16(content):
        return "utf-16-le" if content[1:_SAMPLE:2].count(0) else "utf-16-be"
    sample = content[:_SAMPLE] if max(content[:_SAMPLE], default=0) > 127 else content
    letters = sum(chr(byte).isalpha() for byte in sample if byte < 128)
    high = sum(byte > 127 for byte in sample)
    if high > _MANY * (letters + high):
        return next((name for name in _OTHER_SCRIPTS if _decodes(content, name)), None)
    return "cp1252" if _decodes(content, "cp1252") else "latin-1"


def _decodes(content: bytes, name: str) -> bool:
    try:
        text = content.decode(name)
    except UnicodeDecodeError:
        return False
    return not any("\x80" <= character < "\xa0" for character in text)


def _is_utf_16(content: bytes) -> bool:
    """Return whether every other byte of most of the content is 0, without a byte order mark."""
    sample = content[:_SAMPLE]
    zeros = [sample[first::2].count(0) for first in (0, 1)]
    return len(sample) >= 4 and max(zeros) > 0.3 * len(sample) and min(zeros) == 0


def _byte(content: bytes, error: UnicodeDecodeError) -> str:
    return "nothing" if error.start >= len(content) else f"0x{content[error.start]:02x}"


def _archive(file: Path, content: bytes) -> str:
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        return "It is an Excel file; save it as CSV UTF-8."
    if content.startswith(b"\x1f\x8b"):
        return "It is compressed with gzip; unpack it first."
    try:
        with zipfile.ZipFile(file) as archive:
            is_workbook = any(name.startswith("xl/") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        is_workbook = False
    if is_workbook:
        return "It is an Excel file; save it as CSV UTF-8."
    return "It is a ZIP archive; unpack it first."
