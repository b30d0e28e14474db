"""Images shown in the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from sft_keras.data.prepared import Prepared
from sft_keras.tasks.examples import ReportExamples, _one_label
from sft_keras.tasks.image_signatures import prepared_pixels


def image_examples(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str]
) -> ReportExamples:
    """Returns images with one label each.

    Args:
      probabilities: Float [n, num_classes].
      prepared: The split.
      class_names: Names in the order of the columns.
    """
    parts = _one_label(probabilities, prepared, class_names)
    positions = sorted({position for part in parts for position, _ in part})
    wanted = {position: number for number, position in enumerate(positions)}
    pictures = [
        tf.io.encode_png(pixels).numpy()
        for position, pixels in enumerate(prepared_pixels(prepared))
        if position in wanted
    ]
    mistakes, uncertain = (
        [{**row, "picture": wanted[position]} for position, row in part] for part in parts
    )
    return ReportExamples(mistakes, uncertain, pictures)
