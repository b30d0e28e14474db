"""The errors this package raises on purpose.

Each carries a whole message (what happened, what was expected, what was received, what to
do next), so the command line prints it without a traceback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class SFTError(Exception):
    """Base of every error raised on purpose; `exit_status` is what a command exits with."""

    exit_status = 1


class RecipeError(SFTError, ValueError):
    """The recipe or a flag asks for something that cannot be done."""

    exit_status = 2


class DataError(SFTError, ValueError):
    """The data is missing, unreadable or does not fit the recipe."""

    exit_status = 2


class UnreadableError(DataError):
    """Examples cannot be read.

    Attributes:
      reasons: {split: {id of an example: why}}, of all of them.
    """

    def __init__(self, message: str, reasons: Mapping[str, Mapping[str, str]]) -> None:
        super().__init__(message)
        self.reasons = reasons


class BackboneError(SFTError, ValueError):
    """The backbone is unknown, its weights are missing, or its blocks do not fit the recipe."""

    exit_status = 2


class RunFolderError(SFTError, ValueError):
    """The run folder cannot be made, exists already, or does not hold what was expected."""

    exit_status = 2


class ClusterError(SFTError, RuntimeError):
    """The workers of a cluster cannot train together, or one of them was lost."""

    exit_status = 2


class DataServiceError(SFTError, RuntimeError):
    """The service that reads examples is not there, or reads something else than this process."""

    exit_status = 2


class LossError(SFTError, RuntimeError):
    """The loss is no longer a finite number."""


class AuditError(SFTError, RuntimeError):
    """A stage moved what it should not have moved, or did not move anything."""


class ExportError(SFTError, RuntimeError):
    """An exported model differs from the trained model, or cannot be exported."""


class ServingError(SFTError, RuntimeError):
    """The server cannot start: a package or an address is missing, or the model is another kind."""

    exit_status = 2


class StoppedError(SFTError, RuntimeError):
    """Somebody has stopped the run; its message says how to go on."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def numbered(headline: str, faults: Sequence[str]) -> str:
    """Returns one message that lists every fault under `headline`."""
    lines = [f"  {number}. {fault}" for number, fault in enumerate(faults, 1)]
    return "\n".join([headline, *lines])
