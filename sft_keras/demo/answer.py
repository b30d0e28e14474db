"""From what stands in the page's fields to the model's answer, or why there is none."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import tensorflow as tf

from sft_keras.inference.exported_model import ExportedModel, Input
from sft_keras.serving.limits import Limits
from sft_keras.tasks.predictions import Prediction
from sft_keras.tasks.signatures import is_binary
from sft_keras.vision.faults import first_line

LOG = logging.getLogger("sft_keras.demo")

_EMPTY = {
    "image_bytes": "Choose a picture first.",
    "texts": "Type a text first.",
    "text_pairs": "Type the second text too.",
    "questions": "Type a question first.",
    "contexts": "Type the passage too.",
}


def ask(model: ExportedModel, given: Sequence[bytes | str | None], limits: Limits) -> Prediction:
    """Returns the answer; whatever is given, nothing is raised, and `error` says what is wrong.

    Args:
      model: The model.
      given: What each of its arguments is to be, in their order; None for nothing.
      limits: Of what all texts may be, as for a request to the server.
    """
    values = dict(zip(model.arguments, given))
    texts = [value for value in given if isinstance(value, str)]
    name = "\t".join(texts)
    fault = _fault(values, texts, limits)
    if fault is not None:
        return Prediction(name, error=fault)
    try:
        (answer,) = model.predict([Input(name, values)])
    except tf.errors.InvalidArgumentError as error:
        return Prediction(name, error=f"The model refuses this: {first_line(error)}")
    except Exception as error:
        # Whoever asks learns nothing of the inside, and the page goes on.
        LOG.exception("The model failed: %s", type(error).__name__)
        return Prediction(name, error="The model failed on this. The terminal says how.")
    if answer.error is not None:
        what = "The picture cannot be read" if is_binary(model.arguments[0]) else "This is refused"
        return Prediction(name, error=f"{what}: {answer.error}.")
    return answer


def _fault(
    values: dict[str, bytes | str | None], texts: Sequence[str], limits: Limits
) -> str | None:
    for name, value in values.items():
        if value is None or (isinstance(value, str) and not value.strip()):
            return _EMPTY[name]
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    if size > limits.text_bytes:
        return (
            f"At most {limits.text_bytes:,} bytes of text are read. This has {size:,}: shorten it."
        )
    return None
