"""LoRA: low-rank adapters for a stage, attached on entry and merged into the kernels on exit.

Source: Hu et al. 2021, arXiv:2106.09685, section 4.1. While a layer has an adapter, its kernel W
[d, k] stays frozen and the layer computes with

    W + alpha / rank * A B        A [d, rank], B [rank, k]

A starts with random values and B with zeros, so that attaching changes no output. Only A and B
train. On exit the product is added to W and both matrices are removed: the model computes the same
as before the merge, and again has exactly the variables it had before the stage. Checkpoints,
exports and later stages therefore need no support for adapters.

The matrices are Keras' own (`Layer.enable_lora`). Keras cannot merge and remove them, so `_merge`
does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import keras
import numpy as np

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.layers import iter_layers
from sft_keras.core.errors import RecipeError
from sft_keras.recipe.section import did_you_mean
from sft_keras.recipe.stage import Stage

_DENSE = (keras.layers.Dense, keras.layers.EinsumDense)
# Attribute names in Keras: the adapted variable, A and B.
_DENSE_NAMES = ("_kernel", "lora_kernel_a", "lora_kernel_b")
_EMBEDDING_NAMES = ("_embeddings", "lora_embeddings_a", "lora_embeddings_b")


def layers_to_adapt(backbone: BuiltBackbone, stage: Stage) -> tuple[keras.Layer, ...]:
    """Return the layers that get an adapter in a stage; none if the stage has no adapter.

    Args:
      backbone: The backbone.
      stage: The stage, whose unfrozen blocks are searched: all their Dense and EinsumDense layers
        for `targets="all"`, otherwise those layers and Embedding layers by parts of their names.

    Raises:
      RecipeError: If the unfrozen blocks have no suitable layer, or none with a requested name.
    """
    adapter = stage.adapter
    if adapter is None:
        return ()
    blocks = backbone.top_blocks(stage.unfreeze)
    layers = list(iter_layers(*(layer for block in blocks for layer in block.layers)))
    missing: list[str] = []
    if adapter.targets == "all":
        candidates = selected = [layer for layer in layers if isinstance(layer, _DENSE)]
    else:
        candidates = [
            layer for layer in layers if isinstance(layer, (*_DENSE, keras.layers.Embedding))
        ]
        selected = [
            layer for layer in candidates if any(part in layer.name for part in adapter.targets)
        ]
        missing = [
            part for part in adapter.targets if not any(part in layer.name for layer in candidates)
        ]
    if selected and not missing:
        return tuple(selected)
    where = f"the unfrozen blocks ({', '.join(block.name for block in blocks)})"
    if not candidates:
        raise RecipeError(
            f"`stages.{stage.name}.adapter` is for Dense and EinsumDense layers, and {where} of "
            f"{backbone.model.name} have none. Remove the adapter, unfreeze other blocks, or use a "
            "backbone of transformer blocks."
        )
    names = sorted({layer.name for layer in candidates})
    raise RecipeError(
        f"`stages.{stage.name}.adapter.targets` must be 'all', or parts of names of layers in "
        f"{where}. Received: {', '.join(map(repr, missing))}.{did_you_mean(missing[0], names)} "
        f"Available: {', '.join(names)}."
    )


def adapter_variables(layers: Iterable[keras.Layer]) -> list[keras.Variable]:
    """Return the matrices A and B of all adapters currently attached in the layers."""
    return [
        getattr(layer, name)
        for layer in iter_layers(*layers)
        if getattr(layer, "lora_enabled", False)
        for name in _variable_names(layer)[1:]
    ]


@contextlib.contextmanager
def attach_adapters(backbone: BuiltBackbone, stage: Stage, seed: int) -> Iterator[None]:
    """Context manager: attach LoRA adapters on entry, merge them into the kernels on exit.

    They are merged even if the block raises. Without an adapter in the stage, nothing happens.

    Args:
      backbone: The backbone whose unfrozen blocks get adapters.
      stage: The stage with the adapter's settings.
      seed: The seed of the initial values of A.

    Raises:
      RecipeError: As `layers_to_adapt`.

    Example:

    ```python
    stage = Stage(name="top", epochs=3, learning_rate=1e-3, unfreeze=2, adapter=LoRA(rank=8))
    with attach_adapters(backbone, stage, seed=0):
        train(model)
    model.save("model.keras")  # has no trace of the adapters
    ```
    """
    adapter = stage.adapter
    if adapter is None:
        yield
        return
    layers = layers_to_adapt(backbone, stage)
    seeds = np.random.SeedSequence(seed).generate_state(len(layers))
    try:
        for layer, layer_seed in zip(layers, seeds):
            layer.enable_lora(
                adapter.rank,
                lora_alpha=adapter.alpha,
                a_initializer=keras.initializers.HeUniform(seed=int(layer_seed)),
            )
        yield
    finally:
        for layer in layers:
            if layer.lora_enabled:
                _merge(layer)
        _restore_trainable(backbone, stage)


def _merge(layer: keras.Layer) -> None:
    """Add a layer's adapter to the adapted variable and remove it."""
    kernel_name, *matrix_names = _variable_names(layer)
    kernel = getattr(layer, kernel_name)
    a, b = (getattr(layer, name) for name in matrix_names)
    if np.any(b.numpy()):  # otherwise nothing was learned; adding 0 would change the sign of -0.0
        # Not `layer.kernel`, which is rounded to the layer's compute dtype.
        product = keras.ops.matmul(a, b) * (layer.lora_alpha / layer.lora_rank)
        kernel.assign(kernel + keras.ops.cast(product, kernel.dtype))
    for name, matrix in zip(matrix_names, (a, b)):
        layer._untrack_variable(matrix)
        # As `del layer.lora_kernel_a`, which also collects garbage: 0.3 s per matrix.
        super(keras.Layer, layer).__delattr__(name)
    layer.lora_enabled = False
    layer.lora_rank = layer.lora_alpha = None  # otherwise a saved layer would load with an adapter


def _restore_trainable(backbone: BuiltBackbone, stage: Stage) -> None:
    """Set the variables' `trainable` to that of their layers; training adapters had changed it.

    Setting `layer.trainable` would not do: Keras ignores it if the value is unchanged.
    """
    blocks = backbone.top_blocks(stage.unfreeze)
    for layer in iter_layers(*(layer for block in blocks for layer in block.layers)):
        for variable in layer._trainable_variables:
            variable.trainable = layer.trainable


def _variable_names(layer: keras.Layer) -> tuple[str, str, str]:
    return _EMBEDDING_NAMES if isinstance(layer, keras.layers.Embedding) else _DENSE_NAMES
