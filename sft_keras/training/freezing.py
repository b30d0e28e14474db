"""Freezing: which layers and variables a stage trains."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from sft_keras.backbones.layers import iter_layers
from sft_keras.models.lora import adapter_variables
from sft_keras.models.staged import StagedModel, unfrozen_blocks
from sft_keras.recipe.stage import Stage


def set_trainable(staged: StagedModel, stage: Stage) -> None:
    """Set the `trainable` flag of every layer for a stage.

    Layers are set one by one, outer before inner: setting the flag of a model whose layers were
    toggled before may change nothing. BatchNormalization is frozen layer by layer, since only its
    own flag keeps its statistics (calling a Functional model with `training=False` does not).

    Compile again afterwards, with a new optimizer: Keras ignores changed flags until then.
    """
    free = {id(block) for block in unfrozen_blocks(staged, stage)}
    # The head first, since a tied layer in it passes its flag on to one of the backbone.
    for layer in staged.head_layers:
        layer.trainable = True
    for block in staged.backbone.blocks:
        for layer in iter_layers(*block.layers):
            frozen_norm = is_batch_norm(layer) and not stage.train_batch_norm
            layer.trainable = id(block) in free and not frozen_norm
    if stage.adapter is not None:
        # After the layers' flags, since each sets those of the layer's variables.
        unfrozen = _unfrozen_layers(staged, stage)
        adapters = set(map(id, adapter_variables(unfrozen)))
        for variable in (variable for layer in unfrozen for variable in layer.variables):
            variable.trainable = id(variable) in adapters


def _unfrozen_layers(staged: StagedModel, stage: Stage) -> list[keras.Layer]:
    return [layer for block in unfrozen_blocks(staged, stage) for layer in block.layers]


def may_move(staged: StagedModel, stage: Stage) -> dict[str, keras.Variable]:
    """Return {path: variable} of what a stage may change, derived from the recipe, not from flags.

    The audit compares with this rather than with `trainable_variables`, so that it detects a flag
    that was set wrongly.
    """
    unfrozen = _unfrozen_layers(staged, stage)
    free = set(map(id, staged.head_variables))
    if stage.adapter is not None:
        free |= set(map(id, adapter_variables(unfrozen)))
    else:
        parts = list(iter_layers(*staged.head_layers, *unfrozen))
        held = [part for part in parts if is_batch_norm(part) and not stage.train_batch_norm]
        free = (free | variable_ids(unfrozen)) - variable_ids(held)
    return {name: v for name, v in named_variables(staged).items() if id(v) in free}


def trained_batch_norms(staged: StagedModel, stage: Stage) -> list[keras.layers.BatchNormalization]:
    """Return the layers whose statistics a stage updates. Call `set_trainable` before."""
    layers = iter_layers(*staged.head_layers, *_unfrozen_layers(staged, stage))
    return [layer for layer in layers if is_batch_norm(layer) and layer.trainable]


def named_variables(staged: StagedModel) -> dict[str, keras.Variable]:
    """Return {path: variable} of every variable except random states.

    If variables share a path, such as those of a layer in the head and one in the backbone, the
    second is named "PATH#2" and so on, so that none hides another.
    """
    return _by_path(v for v in staged.model.variables if not _is_random_state(v))


def random_states(staged: StagedModel) -> dict[str, keras.Variable]:
    """Return {number: random state}, numbered in the model's order.

    Their paths do not identify them: Keras numbers them over all models of a process.
    """
    states = [variable for variable in staged.model.variables if _is_random_state(variable)]
    return {f"{number:05d}": variable for number, variable in enumerate(states)}


def _by_path(variables: Iterable[keras.Variable]) -> dict[str, keras.Variable]:
    named: dict[str, keras.Variable] = {}
    for variable in variables:
        name, number = variable.path, 1
        while name in named:
            number += 1
            name = f"{variable.path}#{number}"
        named[name] = variable
    return named


def _is_random_state(variable: keras.Variable) -> bool:
    return variable.path.endswith("seed_generator_state")


def is_batch_norm(layer: keras.Layer) -> bool:
    """Whether a layer is a BatchNormalization."""
    return isinstance(layer, keras.layers.BatchNormalization)


def variable_ids(layers: Iterable[keras.Layer]) -> set[int]:
    """Return the ids of all variables of layers."""
    return {id(variable) for layer in layers for variable in layer.variables}
