"""Entry point of every command: flags, errors and exit status. Does not import TensorFlow."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from sft_keras.core.errors import SFTError


def run_command(entry: Callable[[Sequence[str]], None]) -> None:
    """Parse the flags, run a command and exit.

    An error of this package is printed without a traceback, and its exit status is returned to
    the shell; invalid flags exit with 2, Ctrl-C with 130, a closed pipe with 141.

    Args:
      entry: Called with the program's name and the positional arguments.
    """

    def guarded(argv: Sequence[str]) -> None:
        logging.set_verbosity(logging.ERROR)  # messages of libraries would bury those of the run
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

    app.run(guarded, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(list(argv))
    except flags.Error as error:
        print(f"{error}\nRun with --help for all flags.", file=sys.stderr)
        sys.exit(2)
