"""Signatures of an exported model. Importing this does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class ServingSignatures:
    """The signatures of a task's SavedModel.

    Attributes:
      functions: {name: (function, specs of its arguments)}; "serving_default" takes raw inputs.
      tracked: Resources of the functions beside the model, e.g. the tables of a tokenizer.
      needs: Modules that must be imported, beside TensorFlow, before the export is loaded.
      compared: The output that is compared with the trained model's to verify the export.
      unit: The unit of differences between these two; 1 for probabilities.
      class_names: Names of the columns of "probabilities", in order; empty if the columns are not
        classes or differ between inputs.
    """

    functions: Mapping[str, tuple[Callable[..., Any], Sequence[tf.TensorSpec]]]
    tracked: Sequence[tf.Module] = ()
    needs: tuple[str, ...] = ()
    compared: str = "probabilities"
    unit: float = 1.0
    class_names: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """Return signatures and required modules as plain values for the report."""
        signatures = {
            name: ", ".join(f"{spec.name}: {spec.dtype.name} {spec.shape}" for spec in specs)
            for name, (_, specs) in self.functions.items()
        }
        return {"signatures": signatures, "needs": list(self.needs)}


def is_binary(name: str) -> bool:
    """Return whether strings of this argument or output are raw bytes rather than UTF-8 text.

    The "_bytes" suffix is TensorFlow Serving's convention for outputs; this package uses it for
    arguments too.
    """
    return name.endswith("_bytes")
