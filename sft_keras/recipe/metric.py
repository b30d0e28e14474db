"""What a metric means: its name, its direction and its unit. Standard library only."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of a task, as metrics are ranked, monitored and shown.

    Attributes:
      name: Its key in `report.json`, in histories and, after "val_", in `Stage.monitor`.
      label: The name for people; by default `name` without underscores.
      higher_is_better: Whether more is better.
      is_share: Whether it is a share in 0..1, which is shown in percent.

    Example:
      >>> Metric("mean_absolute_error", higher_is_better=False).label
      'mean absolute error'
    """

    name: str
    label: str = ""
    higher_is_better: bool = True
    is_share: bool = False

    def __post_init__(self) -> None:
        """Derive the label from the name."""
        if not self.label:
            object.__setattr__(self, "label", self.name.replace("_", " "))

    def is_better(self, value: float, other: float) -> bool:
        """Return whether `value` is better than `other`."""
        return value > other if self.higher_is_better else value < other

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return dataclasses.asdict(self)


LOSS = Metric("loss", higher_is_better=False)
ACCURACY = Metric("accuracy", is_share=True)
