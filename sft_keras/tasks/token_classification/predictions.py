"""Predicted entities from the outputs of an exported model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sft_keras.tasks.predictions import Entity, Prediction, ServedOutputs


def entity_predictions(names: Sequence[str], answers: ServedOutputs) -> list[Prediction]:
    """Return the entities found in each text, in order."""
    found: list[list[Entity]] = [[] for _ in names]
    columns = (answers[field.name] for field in dataclasses.fields(Entity))
    for text, label, part, start, end, probability in zip(answers["text_index"], *columns):
        entity = Entity(label.decode(), part.decode(), int(start), int(end), float(probability))
        found[text].append(entity)
    return [Prediction(name, entities=tuple(each)) for name, each in zip(names, found)]
