"""Notices a model that gives every example one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from sft_keras.steps import OutputWatch


class OneClassOnly(OutputWatch):
    """Sees one-hot labels and logits, [batch, num_classes] each."""

    def __init__(self, class_names: Sequence[str], name: str = "one_class_only") -> None:
        super().__init__(name=name)
        self._class_names = tuple(class_names)
        self._given = self._bounds("given")
        self._right = self._bounds("right")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Looks at a batch."""
        ops = keras.ops
        for (lowest, highest), values in ((self._given, y_pred), (self._right, y_true)):
            classes = ops.cast(ops.argmax(values, axis=-1), "int32")
            lowest.assign(ops.minimum(lowest, ops.min(classes)))
            highest.assign(ops.maximum(highest, ops.max(classes)))

    def result(self) -> Any:
        """Returns whether one class alone was given, where others were right; a scalar."""
        ops = keras.ops
        (lowest, highest), (low_right, high_right) = self._given, self._right
        return ops.logical_and(ops.equal(lowest, highest), ops.not_equal(low_right, high_right))

    def reset_state(self) -> None:
        """Forgets what it saw."""
        for lowest, highest in (self._given, self._right):
            lowest.assign(len(self._class_names))
            highest.assign(-1)

    def warning(self) -> str | None:
        """See `OutputWatch.warning`."""
        if not bool(self.result()):
            return None
        name = repr(self._class_names[int(self._given[0])]).replace("{", "{{").replace("}", "}}")
        return (
            f"Every validation example is given the class {name} {{where}}. If that does not pass, "
            "try another learning rate, or class_weights='balanced' where that class is most of "
            "the data; and look whether the labels belong to the inputs."
        )

    def _bounds(self, name: str) -> tuple[keras.Variable, keras.Variable]:
        return (
            self.add_weight(
                shape=(),
                initializer=_constant(len(self._class_names)),
                dtype="int32",
                name=f"{name}_lowest",
            ),
            self.add_weight(
                shape=(), initializer=_constant(-1), dtype="int32", name=f"{name}_highest"
            ),
        )


def _constant(value: int) -> keras.initializers.Initializer:
    return keras.initializers.Constant(value)
