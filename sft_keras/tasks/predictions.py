"""Predictions from the outputs of an exported model. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

ServedOutputs = Mapping[str, "np.ndarray"]
"""{output: array [n, ...]} of a call to an exported signature on n inputs."""


@dataclasses.dataclass(frozen=True)
class Entity:
    """A labelled span of a text.

    Attributes:
      label: The type of the entity, e.g. "PER".
      text: The span itself.
      start: Position of its first character in the input.
      end: Position after its last character.
      probability: In 0..1.
    """

    label: str
    text: str
    start: int
    end: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one file or text, or the error that prevented it.

    Only the attributes of the task's own kind of prediction are set.

    Attributes:
      input: The file's path, or the text.
      label: The most probable class.
      probabilities: {class name: probability in 0..1}.
      error: Why there is no prediction, or None.
      labels: The classes above the threshold of a multi-label model, most probable first.
      value: The predicted number of a regression model.
      entities: The entities of a token classifier, in the order of the text.

    Example:

        >>> Prediction("a cat", "animal", {"animal": 0.9, "plant": 0.1}).lines()
        [' 90.0%  animal                    a cat']
    """

    input: str
    label: str | None = None
    probabilities: dict[str, float] = dataclasses.field(default_factory=dict)
    error: str | None = None
    labels: tuple[str, ...] | None = None
    value: float | None = None
    entities: tuple[Entity, ...] | None = None

    def describe(self) -> str:
        """Return the prediction in a fixed width, to be printed before the input."""
        if self.value is not None:
            return f"{self.value:12.6g}"
        if self.labels is not None:
            shown = (f"{name} {self.probabilities[name]:.1%}" for name in self.labels)
            return f"{', '.join(shown) or '-':<32}"
        if self.entities is not None:
            return ", ".join(f"{entity.label} {entity.text}" for entity in self.entities) or "-"
        if self.label is None:
            raise ValueError(f"There is no prediction for {self.input!r}: {self.error}")
        return f"{self.probabilities[self.label]:6.1%}  {self.label:<24}"

    def lines(self) -> list[str]:
        """Return the lines to print: one, or one per entity."""
        if self.entities is None:
            return [f"{self.describe()}  {self.input}"]
        return [
            f"{entity.probability:6.1%}  {entity.label:<24}  {entity.text}  "
            f"({entity.start} to {entity.end})  {self.input}"
            for entity in self.entities
        ] or [f"{'-':>6}  {'':<24}  {self.input}"]

    def as_json(self) -> dict[str, Any]:
        """Return the prediction as plain values, without the kinds that do not apply."""
        plain = dataclasses.asdict(self)
        if self.entities is not None:
            return {name: plain[name] for name in ("input", "entities", "error")}
        optional = ("labels", "value", "entities")
        return {
            name: value
            for name, value in plain.items()
            if name not in optional or value is not None
        }


def class_predictions(inputs: Sequence[str], outputs: ServedOutputs) -> list[Prediction]:
    """Return the most probable class of each input."""
    return [
        Prediction(source, label.decode(), probabilities)
        for source, label, probabilities in zip(inputs, outputs["label"], _probabilities(outputs))
    ]


def label_set_predictions(inputs: Sequence[str], outputs: ServedOutputs) -> list[Prediction]:
    """Return the classes above the threshold of each input, most probable first."""
    predictions = []
    for source, chosen, probabilities in zip(inputs, outputs["chosen"], _probabilities(outputs)):
        labels = [label for label, is_chosen in zip(probabilities, chosen) if is_chosen]
        labels.sort(key=probabilities.__getitem__, reverse=True)
        predictions.append(Prediction(source, probabilities=probabilities, labels=tuple(labels)))
    return predictions


def number_predictions(inputs: Sequence[str], outputs: ServedOutputs) -> list[Prediction]:
    """Return the predicted number of each input."""
    return [
        Prediction(source, value=float(value)) for source, value in zip(inputs, outputs["value"])
    ]


def _probabilities(outputs: ServedOutputs) -> list[dict[str, float]]:
    return [
        {name.decode(): float(probability) for name, probability in zip(names, row)}
        for names, row in zip(outputs["class_names"], outputs["probabilities"])
    ]
