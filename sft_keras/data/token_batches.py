"""Batches of examples with a class for each token: (x, y, sample weight)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from sft_keras.data.finished_batches import Finish

IGNORED = -1
"""The target of tokens that have no class: they count neither in the loss nor in figures."""


def with_token_classes(num_classes: int) -> Finish:
    """Returns a function from batches whose targets are the classes of tokens, by number.

    To (x; one-hot classes float32 [batch, tokens, num_classes], with zeros for tokens that have
    none; sample weights float32 [batch, tokens], 0 for these and 1 for others).
    """

    def finish(batch: Mapping[str, Any]) -> tuple[Any, tf.Tensor, tf.Tensor]:
        classes = batch["target"]
        weights = tf.cast(classes != IGNORED, tf.float32)
        return batch["input"], tf.one_hot(classes, num_classes), weights  # a row of zeros for -1

    return finish
