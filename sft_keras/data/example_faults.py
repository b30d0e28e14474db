"""Faults of single examples, found while a source is read, and what happens to these examples."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sft_keras.data.exclude import read_excluded_ids
from sft_keras.data.listing import preview
from sft_keras.recipe.data import Data

_MAX_LISTED = 20


class ExampleFaults:
    """Collects faults of single examples by reason.

    Excluded examples have no faults. The faults of all others stop the run, or the examples are
    dropped and counted, as `data.on_fault` says.

    Attributes:
      excluded: Ids that `data.exclude` lists.
      dropped: Number of dropped examples by reason.
      notes: Complete sentences on how the source was read.
      ids: Ids of all examples that were reported here, which are in no split.
    """

    def __init__(self, data: Data) -> None:
        """Start without faults.

        Raises:
          DataError: If `data.exclude` cannot be read.
        """
        self.excluded = read_excluded_ids(data.exclude)
        self.dropped: Counter[str] = Counter()
        self.notes: list[str] = []
        self.ids: set[str] = set()
        self._drops = data.on_fault == "drop"
        self._faulty: dict[str, list[str]] = {}
        self._sentences: dict[str, tuple[str, str]] = {}
        self._left_out: dict[str, list[str]] = {}

    def add(
        self, reason: str, id_: str, shown: str = "", *, sentence: str = "", hint: str = ""
    ) -> None:
        """Report an example that cannot be used.

        Args:
          reason: What is wrong, to finish "3 examples ..." in the report: "with too many values".
          id_: The example.
          shown: Where it is and what it holds, for the message.
          sentence: What finishes "3 ..." in the message; "examples" and the reason by default.
          hint: What to do about it.
        """
        self.ids.add(id_)
        if id_ in self.excluded:
            return
        place = f"{id_} ({shown})" if shown else id_
        if self._drops:
            self._leave_out(reason, place)
        else:
            self._faulty.setdefault(reason, []).append(place)
            self._sentences[reason] = (sentence or f"examples {reason}", hint)

    def drop(self, reason: str, id_: str, shown: str = "") -> None:
        """Report an example that is always dropped, such as one without a label."""
        self.ids.add(id_)
        if id_ not in self.excluded:
            self._leave_out(reason, f"{id_} ({shown})" if shown else id_)

    def _leave_out(self, reason: str, place: str) -> None:
        self.dropped[reason] += 1
        self._left_out.setdefault(reason, []).append(place)

    def sentences(self) -> list[str]:
        """Return one sentence per reason for the examples that stop the run."""
        faults = []
        for reason, places in self._faulty.items():
            sentence, hint = self._sentences[reason]
            faults.append(f"{len(places)} {sentence}: {preview(places)}.{hint and ' '}{hint}")
        if faults:
            faults[-1] += (
                " Examples that cannot be used are dropped with --set=data.on_fault=drop, or "
                "listed in a file for --exclude."
            )
        return faults

    def facts(self) -> dict[str, Any]:
        """Return {"dropped", "notes"} for `Listing.facts`."""
        listed = [
            f"Dropped {reason}: {preview(places, _MAX_LISTED)}."
            for reason, places in self._left_out.items()
        ]
        notes = [*self.notes, *listed]
        return {"dropped": dict(self.dropped), **({"notes": notes} if notes else {})}
