"""Text for terminals and pipes: characters they cannot encode, quoted commands. No TensorFlow.

A pipe on Windows is usually cp1252, so a class name or an emoji would end a run with a
UnicodeEncodeError. Such characters are written as JSON escapes instead, e.g. \\u03b2, so that JSON
lines stay valid too.
"""

from __future__ import annotations

import codecs
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

_ESCAPES = "sft_keras.json_escapes"


def _json_escapes(error: UnicodeError) -> tuple[str, int]:
    """Return the escapes of the characters that cannot be encoded; an error handler of codecs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    encoded = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    units = (encoded[start : start + 2].hex() for start in range(0, len(encoded), 2))
    return "".join(f"\\u{unit}" for unit in units), error.end


codecs.register_error(_ESCAPES, _json_escapes)


def escape_unencodable_output() -> None:
    """Make standard output escape characters that it cannot encode, instead of failing.

    Only commands call this: a library must not change the streams of its process.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_ESCAPES)


def printable(text: str) -> str:
    r"""Return text with escapes in place of characters that standard output cannot encode.

    Example:
      >>> printable("12 examples")
      '12 examples'
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, _ESCAPES).decode(encoding)


def join_command(words: Sequence[str]) -> str:
    r"""Return a command that can be pasted into a shell of this system.

    Example:
      >>> join_command(["python", "-m", "sft_keras.run", "--recipe=quickstart"])
      'python -m sft_keras.run --recipe=quickstart'
    """
    # cmd and PowerShell pass single quotes on as part of the word.
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def split_command(command: str) -> list[str]:
    """Return the words of a command from `join_command`."""
    if os.name != "nt":
        return shlex.split(command)
    lexer = shlex.shlex(command, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.escape, lexer.quotes, lexer.commenters = True, "", '"', ""
    return list(lexer)
