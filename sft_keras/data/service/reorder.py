"""Elements that come as they are done, put back into the order of their numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import tensorflow as tf
from absl import logging

HELD = 64
"""How many elements are held that have come before their turn."""


class Coming(Protocol):
    """Elements with a number each, in any order; some may never come."""

    def next(self, timeout: float) -> dict[str, Any]:
        """Returns the next element, with its "number".

        Raises:
          OutOfRangeError: If there is none.
          OpError: If none came within `timeout` seconds; nothing can be had of it any more.
        """

    def close(self) -> None:
        """Gives up what has not come."""


def reorder(
    begin: Callable[[int], Coming], first: int, end: int | None, timeout: float
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yields each number with its element, or with None where that does not come.

    One does not come if so many others have come before it that they cannot be held. Where nothing
    comes at all, the rest is asked for again, since there may be others who can do it.

    Args:
      begin: Has the elements from a number on come.
      first: The number of the first.
      end: The number after that of the last; None for no end.
      timeout: Seconds to wait for anything.

    Raises:
      OpError: If nothing comes the second time, either.
    """
    early: dict[int, dict[str, Any]] = {}
    coming, was_silent, has_ended = begin(first), False, False
    try:
        for number in itertools.count(first) if end is None else range(first, end):
            while number not in early and len(early) < HELD and not has_ended:
                try:
                    element = coming.next(timeout)
                except tf.errors.OutOfRangeError:
                    has_ended = True
                except tf.errors.OpError:
                    if was_silent:
                        raise
                    logging.warning("No examples have come for %.0f s; asking again.", timeout)
                    was_silent = True
                    coming.close()
                    coming = begin(number)
                else:
                    was_silent = False
                    if element["number"] >= number:  # else it comes too late
                        early[int(element["number"])] = element
            yield number, early.pop(number, None)
    finally:
        coming.close()
