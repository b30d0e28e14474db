"""How every command of the package starts and ends. Does not import TensorFlow."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from sft_keras.core.errors import SFTError


def run_command(entry: Callable[[Sequence[str]], None]) -> None:
    """Runs a command; an error of this package is printed without a traceback."""

    def guarded(argv: Sequence[str]) -> None:
        logging.set_verbosity(logging.ERROR)  # else libraries' notes bury what a run says
        try:
            entry(argv)
        except SFTError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_status)
        except KeyboardInterrupt:
            print("\nStopped.", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:  # Whoever read it has read enough, as `head` does.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)

    app.run(guarded, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(list(argv))
    except flags.Error as error:
        print(f"{error}\nSee --help for the flags.", file=sys.stderr)
        sys.exit(2)
