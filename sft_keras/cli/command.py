"""Entry point of every command: flags, errors and exit status. Does not import TensorFlow."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags
from absl import logging as absl_logging

from sft_keras.core.errors import SFTError
from sft_keras.core.output import escape_unencodable_output, join_command

_FLAG = re.compile(r"--?[A-Za-z]\w*(=\S*)?")
"""Arguments that are meant as flags; texts that begin with a dash have blanks or other letters."""
OWN_LOGGER = "sft_keras"
"""The parent of the loggers of all modules of this package."""


def run_command(entry: Callable[[Sequence[str]], None], takes_texts: bool = False) -> None:
    """Parse the flags, run a command and exit.

    An error of this package is printed without a traceback, and its exit status is returned to
    the shell; invalid flags exit with 2, Ctrl-C with 130, a closed pipe with 141. Warnings of this
    package are printed, those of libraries are not.

    Args:
      entry: Called with the program's name and the positional arguments.
      takes_texts: Whether positional arguments are texts, which may begin with a dash.
    """

    def guarded(argv: Sequence[str]) -> None:
        # Messages of libraries would bury those of the run.
        absl_logging.set_verbosity(absl_logging.ERROR)
        _print_own_warnings()
        try:
            entry(argv)
        except SFTError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_status)
        except KeyboardInterrupt:
            print("\nStopped.", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:  # The reader has closed its end, as `head` does.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)

    escape_unencodable_output()
    app.run(guarded, flags_parser=_parse_among_texts if takes_texts else _parse)


def _parse_among_texts(argv: Sequence[str]) -> list[str]:
    """Return the texts among the arguments; flags may stand before and after them."""
    flags.FLAGS.set_gnu_getopt(True)
    # Everything after "--" is a text.
    end = argv.index("--") if "--" in argv else len(argv)
    try:
        name, *texts = flags.FLAGS(list(argv[:end]), known_only=True)
    except flags.Error as error:
        print(f"{error}\nRun with --help for all flags.", file=sys.stderr)
        sys.exit(2)
    unknown = [text for text in texts if _FLAG.fullmatch(text)]
    if unknown:
        print(
            f"Unknown flag {unknown[0]!r}. Run with --help for all flags. If it is a text, put -- "
            f"before the texts: -- {join_command(texts)}",
            file=sys.stderr,
        )
        sys.exit(2)
    return [name, *texts, *argv[end + 1 :]]


def _print_own_warnings() -> None:
    """Print the warnings of this package to standard error, whatever the level of the others."""
    logger = logging.getLogger(OWN_LOGGER)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("warning  %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False  # the handler of absl would print them a second time


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(list(argv))
    except flags.Error as error:
        print(f"{error}\nRun with --help for all flags.", file=sys.stderr)
        sys.exit(2)
