"""Monitors of validation outputs, which warn of degenerate models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from typing_extensions import override


class OutputMonitor(keras.metrics.Metric):
    """A metric over validation outputs that yields a warning instead of a value to report.

    Its variables must be sums over examples, like those of other metrics, so that they can be added
    up over workers.
    """

    def warning(self) -> str | None:
        """Return a warning about the outputs since the last reset, or None.

        "{where}" in it is replaced with the time, e.g. "after the first epoch of stage 'head'".
        """
        raise NotImplementedError


class CollapseMonitor(OutputMonitor):
    """Warn if a classifier predicts the same class for every validation example.

    It is updated with one-hot labels and logits, [batch, num_classes] each.

    Args:
      class_names: The names of the classes, in the order of the logits.
      name: The name of the metric.

    Example:

    ```python
    monitor = CollapseMonitor(["cat", "dog"])
    monitor.update_state(y_true=[[1, 0], [0, 1]], y_pred=[[2.0, 1.0], [3.0, 1.0]])
    monitor.warning()  # "Every validation example is predicted as 'cat' {where}. ..."
    ```
    """

    def __init__(self, class_names: Sequence[str], name: str = "one_class_only") -> None:
        super().__init__(name=name)
        self._class_names = tuple(class_names)
        self._predicted, self._true = self._add_counts("given"), self._add_counts("right")

    @override
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count the classes of a batch.

        Args:
          y_true: One-hot labels, [batch, num_classes].
          y_pred: Logits, [batch, num_classes].
          sample_weight: [batch], 1 for an example and 0 for padding; None if there is no padding.
        """
        ops, size = keras.ops, len(self._class_names)
        for counts, scores in ((self._predicted, y_pred), (self._true, y_true)):
            one_hot = ops.one_hot(ops.argmax(scores, axis=-1), size, dtype="int32")
            if sample_weight is not None:
                one_hot *= ops.cast(sample_weight, "int32")[:, None]
            counts.assign_add(ops.sum(one_hot, axis=0))

    @override
    def result(self) -> Any:
        """Return whether one class was predicted although the labels have several; bool scalar."""
        ops = keras.ops
        predicted, true = (
            ops.sum(ops.cast(counts > 0, "int32")) for counts in (self._predicted, self._true)
        )
        return ops.logical_and(ops.equal(predicted, 1), true > 1)

    @override
    def warning(self) -> str | None:
        if not bool(self.result()):
            return None
        predicted = self._class_names[int(keras.ops.argmax(self._predicted))]
        name = repr(predicted).replace("{", "{{").replace("}", "}}")
        return (
            f"Every validation example is predicted as the class {name} {{where}}. If that does "
            "not change, try another learning rate, or class_weights='balanced' if most of the "
            "data has that class; and check that the labels belong to the inputs."
        )

    def _add_counts(self, name: str) -> keras.Variable:
        """Return a new variable for the number of examples per class, int32 [num_classes]."""
        return self.add_weight(
            shape=(len(self._class_names),), initializer="zeros", dtype="int32", name=name
        )
