"""A sink: the destination of one boundary's rows during a pass over the data."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from sft_keras.cache.rows import RowWriter
from sft_keras.cache.stored_features import to_field_arrays

_JUDGED_AFTER = 2**27  # bytes written, by which time the operating system's write buffers are full
# Seconds between commits to disk: the most work that is lost when the process dies.
_COMMITTED_EVERY = 300.0


class SlowDiskError(OSError):
    """Writing the rows takes longer than computing them."""


class Sink:
    """Writes one boundary's rows. Its failure does not stop the pass or other sinks.

    Attributes:
      failure: The error because of which nothing more was stored; None if there was none.
      takes_all: Whether it also stores the rows that other processes have computed.
    """

    def __init__(
        self,
        begin: Callable[[], RowWriter],
        *,
        on_disk: bool,
        takes_all: bool = True,
        gives_up: bool = False,
    ) -> None:
        """Open the first writer.

        Args:
          begin: Returns a new writer; may raise OSError.
          on_disk: Whether rows are written to disk instead of to memory.
          takes_all: See the attribute.
          gives_up: Whether to fail if the disk is slower than computing the rows.
        """
        self.failure: OSError | None = None
        self.takes_all = takes_all
        self._writer: RowWriter | None = None
        self._begin, self._on_disk, self._gives_up = begin, on_disk, gives_up
        self._seconds, self._bytes = 0.0, 0
        self._open()

    def append(self, names: np.ndarray, tensors: list[tf.Tensor], compute_seconds: float) -> None:
        """Write rows.

        Args:
          names: Row names, uint8 [m, DIGEST_SIZE].
          tensors: One tensor [m, ...] per field.
          compute_seconds: Time that computing has taken so far in this pass.
        """
        if self._writer is None:
            return
        start = time.perf_counter()
        if self._on_disk:
            arrays = to_field_arrays(tensors)
        else:
            arrays = [tensor.numpy() for tensor in tensors]
        try:
            self._writer.append(names, arrays)
        except OSError as error:
            self._fail(error)
            return
        self._seconds += time.perf_counter() - start
        self._bytes += sum(array.nbytes for array in arrays)
        if self._on_disk and time.monotonic() - self._opened_at >= _COMMITTED_EVERY:
            self.commit()
            self._open()
        if self._gives_up and self._bytes >= _JUDGED_AFTER and self._seconds > compute_seconds:
            self._fail(SlowDiskError("the disk is slower than recomputing"))

    def commit(self) -> None:
        """Make the rows visible, unless the sink has failed."""
        if self._writer is not None:
            try:
                self._writer.commit()
                self._writer = None
            except OSError as error:
                self._fail(error)

    def keep(self) -> None:
        """Commit what an interrupted pass has written to disk; rows in memory are dropped."""
        if self._on_disk:
            self.commit()

    def close(self) -> None:
        """Drop the rows that are not committed."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def _open(self) -> None:
        self._opened_at = time.monotonic()
        if self.failure is None:
            try:
                self._writer = self._begin()
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.failure = error
        self.close()
