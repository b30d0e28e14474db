"""Traversal of nested Keras layers, and the sizes of their variables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import keras


def iter_layers(*roots: keras.Layer) -> Iterator[keras.Layer]:
    """Yield the given layers and all layers nested in them, each once.

    `keras.Model.layers` lists only the direct children of a model. Layers that are attributes of
    other layers (the dense layers of a transformer block, the model inside a `FrozenPrefix`) are
    yielded here as well.

    Args:
      *roots: Layers or models.

    Yields:
      Every layer before the layers nested in it. Setting `trainable` in this order lets the
      innermost flag win.

    Example:

    ```python
    norms = [
        layer
        for layer in iter_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    ```
    """
    # `_flatten_layers` is private, and the only traversal that includes layers held as attributes.
    yield from dict.fromkeys(layer for root in roots for layer in root._flatten_layers())


def count_parameters(variables: Iterable[keras.Variable]) -> int:
    """Return the number of scalars in the given variables."""
    return sum(math.prod(variable.shape) for variable in variables)
