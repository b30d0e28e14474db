"""Low-rank adapters: put beside kernels of unfrozen blocks for a stage, and added to them after.

Source: Hu et al. 2021, arXiv:2106.09685. The matrices are Keras' own (`enable_lora`), which counts
a layer's kernel as kernel + alpha / rank * A B wherever it is used.
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
# Of each kind of layer: what is adapted, and what Keras calls the matrices.
_OF_KERNEL = ("_kernel", "lora_kernel_a", "lora_kernel_b")
_OF_EMBEDDING = ("_embeddings", "lora_embeddings_a", "lora_embeddings_b")


def layers_to_adapt(backbone: BuiltBackbone, stage: Stage) -> tuple[keras.Layer, ...]:
    """Returns the layers that get an adapter in a stage, none where it trains without.

    Raises:
      RecipeError: If no layer of the unfrozen blocks can have one, or none has the name asked for.
    """
    adapter = stage.adapter
    if adapter is None:
        return ()
    blocks = backbone.top(stage.unfreeze)
    inner = list(iter_layers(*(layer for block in blocks for layer in block.layers)))
    dense = [layer for layer in inner if isinstance(layer, _DENSE)]
    if adapter.targets == "all":
        found = dense
        lacking = []
    else:
        able = [layer for layer in inner if isinstance(layer, (*_DENSE, keras.layers.Embedding))]
        found = [each for each in able if any(name in each.name for name in adapter.targets)]
        lacking = [n for n in adapter.targets if not any(n in layer.name for layer in able)]
        dense = able
    if found and not lacking:
        return tuple(found)
    where = f"the unfrozen blocks ({', '.join(block.name for block in blocks)})"
    if not dense:
        raise RecipeError(
            f"`stages.{stage.name}.adapter` is for Dense and EinsumDense layers, and {where} of "
            f"{backbone.model.name} have none. Leave it out, unfreeze other blocks, or take a "
            "backbone of transformer blocks."
        )
    names = sorted({layer.name for layer in dense})
    raise RecipeError(
        f"`stages.{stage.name}.adapter.targets` must be 'all', or parts of names of layers in "
        f"{where}. Received: {', '.join(map(repr, lacking))}.{did_you_mean(lacking[0], names)} "
        f"There are: {', '.join(names)}."
    )


def adapter_variables(layers: Iterable[keras.Layer]) -> list[keras.Variable]:
    """Returns the low-rank matrices that stand in the layers, and in those inside them, now."""
    return [
        getattr(part, name)
        for part in iter_layers(*layers)
        if getattr(part, "lora_enabled", False)
        for name in _names(part)[1:]
    ]


@contextlib.contextmanager
def adapted(backbone: BuiltBackbone, stage: Stage, seed: int) -> Iterator[None]:
    """Has the stage's adapters in the backbone's layers within the block, if it asks for any.

    At the end of the block, even if it fails, each product is added to its kernel and the matrices
    are taken away: the model computes what it did, and has the variables that it had before.

    Args:
      backbone: Whose unfrozen blocks get them.
      stage: With the adapter.
      seed: Of the matrices' initial values.

    Raises:
      RecipeError: As `layers_to_adapt`.
    """
    layers = layers_to_adapt(backbone, stage)
    seeds = np.random.SeedSequence(seed).generate_state(len(layers))
    try:
        for layer, own_seed in zip(layers, seeds):
            layer.enable_lora(
                stage.adapter.rank,
                lora_alpha=stage.adapter.alpha,
                a_initializer=keras.initializers.HeUniform(seed=int(own_seed)),
            )
        yield
    finally:
        for layer in layers:
            if layer.lora_enabled:
                _merge(layer)
        _unmark(backbone, stage)


def _merge(layer: keras.Layer) -> None:
    """Adds a layer's adapter to what it adapts, and takes it away."""
    name, *names = _names(layer)
    kernel, (first, second) = getattr(layer, name), (getattr(layer, each) for each in names)
    if np.any(second.numpy()):  # else nothing was learnt, and not even a zero's sign changes
        # Not `layer.kernel`, which is rounded to the precision that the layer computes in.
        product = keras.ops.matmul(first, second) * (layer.lora_alpha / layer.lora_rank)
        kernel.assign(kernel + keras.ops.cast(product, kernel.dtype))
    for each, matrix in zip(names, (first, second)):
        layer._untrack_variable(matrix)
        # As `del layer.lora_kernel_a` does, without the garbage collection of 0.3 s after each.
        super(keras.Layer, layer).__delattr__(each)
    layer.lora_enabled = False
    layer.lora_rank = layer.lora_alpha = None  # else a saved layer would be loaded with an adapter


def _unmark(backbone: BuiltBackbone, stage: Stage) -> None:
    """Gives variables the flags of their layers again, which a stage with adapters took from them.

    Setting the layers' flags would not do it: where one is set to what it is, nothing happens.
    """
    layers = [layer for block in backbone.top(stage.unfreeze) for layer in block.layers]
    for layer in iter_layers(*(layers if stage.adapter is not None else ())):
        for variable in layer._trainable_variables:
            variable.trainable = layer.trainable


def _names(layer: keras.Layer) -> tuple[str, str, str]:
    return _OF_EMBEDDING if isinstance(layer, keras.layers.Embedding) else _OF_KERNEL
