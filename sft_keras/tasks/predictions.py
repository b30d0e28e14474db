"""What an exported model's answers say of each input. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

ServedOutputs = Mapping[str, "np.ndarray"]


@dataclasses.dataclass(frozen=True)
class Entity:
    """A stretch of a text, `text[start:end]` in characters, and what it is."""

    label: str
    text: str
    start: int
    end: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The model's answer about one file or text, or why there is none.

    Attributes:
      input: The file's path, or the text.
      label: The most probable class, or None where there may be any number of them.
      probabilities: {class name: probability}; empty where there is no answer.
      error: Why there is no answer, or None.
      labels: The classes that apply, the most probable first; None where one is asked for.
      value: The number that is predicted; None where classes are.
      entities: What was found in a text, in order; None where that was not asked for.
    """

    input: str
    label: str | None = None
    probabilities: dict[str, float] = dataclasses.field(default_factory=dict)
    error: str | None = None
    labels: tuple[str, ...] | None = None
    value: float | None = None
    entities: tuple[Entity, ...] | None = None

    def describe(self) -> str:
        """Returns the answer, to be printed before the input."""
        if self.value is not None:
            return f"{self.value:12.6g}"
        if self.labels is not None:
            shown = (f"{name} {self.probabilities[name]:.1%}" for name in self.labels)
            return f"{', '.join(shown) or '-':<32}"
        return f"{self.probabilities[self.label]:6.1%}  {self.label:<24}"

    def lines(self) -> list[str]:
        """Returns what to print: a line, or one for each entity."""
        if self.entities is None:
            return [f"{self.describe()}  {self.input}"]
        return [
            f"{each.probability:6.1%}  {each.label:<24}  {each.text}  "
            f"({each.start} to {each.end})  {self.input}"
            for each in self.entities
        ] or [f"{'-':>6}  {'':<24}  {self.input}"]

    def as_json(self) -> dict[str, Any]:
        """Returns the answer as plain values, and of what only some models answer what it has."""
        plain = dataclasses.asdict(self)
        if self.entities is not None:
            return {name: plain[name] for name in ("input", "entities", "error")}
        some = ("labels", "value", "entities")
        return {name: each for name, each in plain.items() if name not in some or each is not None}


def class_predictions(names: Sequence[str], answers: ServedOutputs) -> list[Prediction]:
    """Return the most probable class of each input."""
    return [
        Prediction(name, label.decode(), probabilities)
        for name, label, probabilities in zip(names, answers["label"], _probabilities(answers))
    ]


def label_set_predictions(names: Sequence[str], answers: ServedOutputs) -> list[Prediction]:
    """Return the classes above the threshold of each input, most probable first."""
    found = []
    for name, chosen, all_of in zip(names, answers["chosen"], _probabilities(answers)):
        labels = [label for label, is_chosen in zip(all_of, chosen) if is_chosen]
        labels.sort(key=all_of.get, reverse=True)
        found.append(Prediction(name, probabilities=all_of, labels=tuple(labels)))
    return found


def number_predictions(names: Sequence[str], answers: ServedOutputs) -> list[Prediction]:
    """Return the predicted number of each input."""
    return [Prediction(name, value=float(each)) for name, each in zip(names, answers["value"])]


def _probabilities(answers: ServedOutputs) -> list[dict[str, float]]:
    return [
        {name.decode(): float(each) for name, each in zip(own, row)}
        for own, row in zip(answers["class_names"], answers["probabilities"])
    ]
