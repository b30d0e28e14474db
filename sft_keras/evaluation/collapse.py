"""Notices a model that gives every example one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from sft_keras.evaluation.monitor import OutputMonitor


class CollapseMonitor(OutputMonitor):
    """Sees one-hot labels and logits, [batch, num_classes] each."""

    def __init__(self, class_names: Sequence[str], name: str = "one_class_only") -> None:
        super().__init__(name=name)
        self._class_names = tuple(class_names)
        self._given, self._right = self._counts("given"), self._counts("right")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Looks at a batch; sample weights are 1, or 0 for those that do not count."""
        ops, size = keras.ops, len(self._class_names)
        for counts, values in ((self._given, y_pred), (self._right, y_true)):
            hot = ops.one_hot(ops.argmax(values, axis=-1), size, dtype="int32")
            if sample_weight is not None:
                hot *= ops.cast(sample_weight, "int32")[:, None]
            counts.assign_add(ops.sum(hot, axis=0))

    def result(self) -> Any:
        """Returns whether one class alone was given, where others were right; a scalar."""
        ops = keras.ops
        given, right = (ops.sum(ops.cast(each > 0, "int32")) for each in (self._given, self._right))
        return ops.logical_and(ops.equal(given, 1), right > 1)

    def warning(self) -> str | None:
        """See `OutputMonitor.warning`."""
        if not bool(self.result()):
            return None
        given = self._class_names[int(keras.ops.argmax(self._given))]
        name = repr(given).replace("{", "{{").replace("}", "}}")
        return (
            f"Every validation example is given the class {name} {{where}}. If that does not pass, "
            "try another learning rate, or class_weights='balanced' where that class is most of "
            "the data; and look whether the labels belong to the inputs."
        )

    def _counts(self, name: str) -> keras.Variable:
        """Returns a variable for the number of examples of each class."""
        return self.add_weight(
            shape=(len(self._class_names),), initializer="zeros", dtype="int32", name=name
        )
