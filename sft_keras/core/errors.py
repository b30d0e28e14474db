"""The exceptions that the package raises deliberately. Standard library only.

Their messages are complete (what happened, what was expected, what was received, what to do
next), so the command line prints them without a traceback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class SFTError(Exception):
    """Base class of the package's exceptions.

    Attributes:
      exit_status: Exit status of a command that ends with this error.
    """

    exit_status = 1


class RecipeError(SFTError, ValueError):
    """The recipe or a command-line flag is invalid."""

    exit_status = 2


class DataError(SFTError, ValueError):
    """The data is missing, unreadable or does not fit the recipe."""

    exit_status = 2


class UnreadableError(DataError):
    """Examples cannot be read or decoded.

    Attributes:
      reasons: {split: {example id: reason}} for all unreadable examples.
    """

    def __init__(self, message: str, reasons: Mapping[str, Mapping[str, str]]) -> None:
        super().__init__(message)
        self.reasons = reasons


class BackboneError(SFTError, ValueError):
    """The backbone is unknown, its weights are missing, or its blocks do not fit the recipe."""

    exit_status = 2


class RunFolderError(SFTError, ValueError):
    """The run folder cannot be created, exists already, or lacks expected files."""

    exit_status = 2


class ClusterError(SFTError, RuntimeError):
    """The workers of a cluster cannot train together, or one of them was lost."""

    exit_status = 2


class DataServiceError(SFTError, RuntimeError):
    """The tf.data service is unreachable, or reads other data than this process."""

    exit_status = 2


class LossError(SFTError, RuntimeError):
    """The loss is not finite."""


class AuditError(SFTError, RuntimeError):
    """A stage changed frozen weights, or changed no trainable ones."""


class ExportError(SFTError, RuntimeError):
    """An exported model differs from the trained model, or cannot be exported."""


class ServingError(SFTError, RuntimeError):
    """The server cannot start: a package is missing, the address or the model does not fit."""

    exit_status = 2


class StoppedError(SFTError, RuntimeError):
    """The run was stopped by a signal; the message says how to resume it."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def numbered(headline: str, faults: Sequence[str]) -> str:
    """Return one message that lists all faults under a headline.

    Example:
      >>> print(numbered("The recipe cannot run.", ["`seed` must be a whole number."]))
      The recipe cannot run.
        1. `seed` must be a whole number.
    """
    lines = [f"  {number}. {fault}" for number, fault in enumerate(faults, 1)]
    return "\n".join([headline, *lines])
