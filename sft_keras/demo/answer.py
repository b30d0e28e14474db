"""Computes the prediction for the fields of the page, or the reason why there is none."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import tensorflow as tf

from sft_keras.inference.exported_model import ExportedModel, Input
from sft_keras.serving.limits import Limits
from sft_keras.tasks.predictions import Prediction
from sft_keras.tasks.signatures import is_binary
from sft_keras.vision.faults import first_line

LOG = logging.getLogger("sft_keras.demo")

_LABELS = {
    "image_bytes": "Image",
    "texts": "Text",
    "text_pairs": "Second text",
    "questions": "Question",
    "contexts": "Passage",
}
_MISSING = {
    "image_bytes": "Choose an image first.",
    "texts": "Enter a text first.",
    "text_pairs": "Enter the second text too.",
    "questions": "Enter a question first.",
    "contexts": "Enter the passage too.",
}


def field_label(argument: str) -> str:
    """Return the label of the field for an argument of the model.

    >>> field_label("contexts"), field_label("wind_speed")
    ('Passage', 'Wind speed')
    """
    return _LABELS.get(argument, argument.replace("_", " ").capitalize())


def predict_fields(
    model: ExportedModel, fields: Sequence[bytes | str | None], limits: Limits
) -> Prediction:
    """Return the prediction for the fields. Never raises: `error` holds the reason of a failure.

    Args:
      model: The exported model.
      fields: The value of each of its arguments, in order; None for an empty field.
      limits: The limits of the server, of which `text_bytes` applies.
    """
    values = {name: value for name, value in zip(model.arguments, fields) if value is not None}
    texts = [value for value in fields if isinstance(value, str)]
    name = "\t".join(texts)
    fault = _fault(model.arguments, values, texts, limits)
    if fault is not None:
        return Prediction(name, error=fault)
    try:
        (prediction,) = model.predict([Input(name, values)])
    except tf.errors.InvalidArgumentError as error:
        return Prediction(name, error=f"The model rejects this input: {first_line(error)}")
    except Exception as error:
        # Visitors receive no internal details, and the page keeps working.
        LOG.exception("The model failed: %s", type(error).__name__)
        return Prediction(name, error="The model failed on this input. See the terminal.")
    if prediction.error is not None:
        is_image = is_binary(model.arguments[0])
        reason = "The image cannot be read" if is_image else "This input is rejected"
        return Prediction(name, error=f"{reason}: {prediction.error}.")
    return prediction


def _fault(
    arguments: Sequence[str],
    values: Mapping[str, bytes | str],
    texts: Sequence[str],
    limits: Limits,
) -> str | None:
    for name in arguments:
        value = values.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return _MISSING.get(name, f"{field_label(name)} is empty. Fill it in first.")
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    if size > limits.text_bytes:
        return (
            f"The text may have at most {limits.text_bytes:,} bytes. It has {size:,}: shorten it."
        )
    return None
