"""Examples of image classification shown in the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.prepared import Prepared
from sft_keras.tasks.examples import ReportExamples, Rows, single_label_rows
from sft_keras.tasks.image_signatures import prepared_pixels


def image_examples(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str]
) -> ReportExamples:
    """Return the most confident mistakes and the smallest margins, with their images.

    Args:
      probabilities: Float [n, num_classes].
      prepared: The split.
      class_names: Class names in the order of the columns.
    """
    mistakes, uncertain = single_label_rows(probabilities, prepared, class_names)
    positions = sorted({position for position, _ in [*mistakes, *uncertain]})
    picture_of = {position: number for number, position in enumerate(positions)}
    pictures = [
        tf.io.encode_png(pixels).numpy()
        for position, pixels in enumerate(prepared_pixels(prepared))
        if position in picture_of
    ]

    def add_pictures(rows: Rows) -> list[dict[str, Any]]:
        return [{**row, "picture": picture_of[position]} for position, row in rows]

    return ReportExamples(add_pictures(mistakes), add_pictures(uncertain), pictures)
