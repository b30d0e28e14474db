"""What an exported model's answer says of each input. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


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
      label: The most probable class, or None.
      probabilities: {class name: probability}; empty where there is no answer.
      entities: What was found in a text, in order; None where that was not asked.
      error: Why there is no answer, or None.
    """

    input: str
    label: str | None = None
    probabilities: dict[str, float] = dataclasses.field(default_factory=dict)
    entities: tuple[Entity, ...] | None = None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns what there is, as plain values."""
        plain = dataclasses.asdict(self)
        if self.entities is not None:
            return {name: plain[name] for name in ("input", "entities", "error")}
        del plain["entities"]
        return plain

    def lines(self) -> list[str]:
        """Returns what to print of an answer."""
        if self.entities is None:
            return [f"{self.probabilities[self.label]:6.1%}  {self.label:<24}  {self.input}"]
        if not self.entities:
            return [f"{'':6}  {'nothing found':<24}  {self.input}"]
        return [
            f"{each.probability:6.1%}  {each.label:<24}  {each.text}  "
            f"({each.start} to {each.end})  {self.input}"
            for each in self.entities
        ]


def predictions(names: Sequence[str], answers: Mapping[str, Any]) -> list[Prediction]:
    """Returns the prediction for each input.

    Args:
      names: What each input is called.
      answers: Tensors by name, as the exported model gives them.
    """
    arrays = {name: tensor.numpy() for name, tensor in answers.items()}
    return (_entities if "text_index" in arrays else _labels)(names, arrays)


def _labels(names: Sequence[str], answers: Mapping[str, Any]) -> list[Prediction]:
    classes = [name.decode() for name in answers["class_names"][0]]
    return [
        Prediction(name, label.decode(), dict(zip(classes, map(float, row))))
        for name, label, row in zip(names, answers["label"], answers["probabilities"])
    ]


def _entities(names: Sequence[str], answers: Mapping[str, Any]) -> list[Prediction]:
    found: list[list[Entity]] = [[] for _ in names]
    columns = (answers[field.name] for field in dataclasses.fields(Entity))
    for text, label, part, start, end, probability in zip(answers["text_index"], *columns):
        entity = Entity(label.decode(), part.decode(), int(start), int(end), float(probability))
        found[text].append(entity)
    return [Prediction(name, entities=tuple(each)) for name, each in zip(names, found)]
