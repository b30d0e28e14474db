"""Put elements that arrive in any order back into the order of their numbers."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import tensorflow as tf

_LOG = logging.getLogger(__name__)

MAX_EARLY = 64
"""How many elements are kept that arrive before their turn."""


class NumberedSource(Protocol):
    """A source of numbered elements in any order; some may never arrive."""

    def next(self, timeout: float) -> dict[str, Any]:
        """Return the next element, with its "number".

        Raises:
          OutOfRangeError: If there are no more elements.
          OpError: If none arrived within `timeout` seconds; the source is unusable afterwards.
        """

    def close(self) -> None:
        """Abandon the elements that have not arrived."""


def reorder(
    open_source: Callable[[int], NumberedSource], first: int, end: int | None, timeout: float
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield each number with its element, or with None for an element that does not arrive.

    An element counts as missing once 64 later ones have arrived. If nothing arrives at all, the
    rest is requested once more, since other workers may be able to compute it.

    Args:
      open_source: Opens a source of the elements from a number on.
      first: The first number.
      end: The number after the last; None for no end.
      timeout: Seconds to wait for any element.

    Raises:
      OpError: If nothing arrives the second time either.
    """
    early: dict[int, dict[str, Any]] = {}
    source, has_timed_out, is_exhausted = open_source(first), False, False
    try:
        for number in itertools.count(first) if end is None else range(first, end):
            while number not in early and len(early) < MAX_EARLY and not is_exhausted:
                try:
                    element = source.next(timeout)
                except tf.errors.OutOfRangeError:
                    is_exhausted = True
                except tf.errors.OpError:
                    if has_timed_out:
                        raise
                    _LOG.warning(
                        "No examples have arrived for %.0f s; requesting them again.", timeout
                    )
                    has_timed_out = True
                    source.close()
                    source = open_source(number)
                else:
                    has_timed_out = False
                    if element["number"] >= number:  # else it is too late
                        early[int(element["number"])] = element
            yield number, early.pop(number, None)
    finally:
        source.close()
