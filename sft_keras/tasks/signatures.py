"""What an exported model answers, and what that needs. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class ServingSignatures:
    """The served functions of a task.

    Attributes:
      functions: {name: (function, specs of its arguments)}; "serving_default" takes raw inputs.
      tracked: What the functions use beside the model, such as the tables of a tokenizer.
      needs: Modules to be imported, beside TensorFlow, where the export is loaded.
      compared: The output that must be as the trained model's.
      unit: What its differences are measured in: 1 for probabilities.
      class_names: What the columns of "probabilities" are called, in order; none where they are
        nobody's, or differ from answer to answer.
    """

    functions: Mapping[str, tuple[Callable[..., Any], Sequence[tf.TensorSpec]]]
    tracked: Sequence[tf.Module] = ()
    needs: tuple[str, ...] = ()
    compared: str = "probabilities"
    unit: float = 1.0
    class_names: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """Returns names and arguments as plain values, for the report."""
        signatures = {
            name: ", ".join(f"{spec.name}: {spec.dtype.name} {spec.shape}" for spec in specs)
            for name, (_, specs) in self.functions.items()
        }
        return {"signatures": signatures, "needs": list(self.needs)}


def is_binary(name: str) -> bool:
    """Returns whether strings of this argument or output are bytes, and not UTF-8.

    TensorFlow Serving's convention for outputs, and this package's for arguments.
    """
    return name.endswith("_bytes")
