"""Predictions from the outputs of an exported token classifier. No TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sft_keras.tasks.predictions import Entity, Prediction, ServedOutputs


def entity_predictions(names: Sequence[str], outputs: ServedOutputs) -> list[Prediction]:
    """Return the entities found in each text, in order.

    Args:
      names: The texts.
      outputs: Arrays by output name; "text_index" is the text of each entity.
    """
    by_text: list[list[Entity]] = [[] for _ in names]
    columns = (outputs[field.name] for field in dataclasses.fields(Entity))
    for index, label, text, start, end, probability in zip(outputs["text_index"], *columns):
        entity = Entity(label.decode(), text.decode(), int(start), int(end), float(probability))
        by_text[index].append(entity)
    return [Prediction(name, entities=tuple(entities)) for name, entities in zip(names, by_text)]
