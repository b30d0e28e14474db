"""What trains in a stage, and the audit of what a stage really moved."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from sft_keras.backbones.layers import iter_layers
from sft_keras.models.lora import adapter_variables
from sft_keras.models.staged import StagedModel, unfrozen_blocks
from sft_keras.recipe.stage import Stage


def set_trainable(staged: StagedModel, stage: Stage) -> None:
    """Sets the `trainable` flag of every layer as the stage asks.

    Each layer is set by itself, outer ones before the inner: a flag set on a model whose layers
    were toggled before may change nothing. BatchNormalization is frozen layer by layer, since only
    its own flag keeps its statistics (in a Functional model `training=False` at the call does not).

    Compile anew afterwards, with a new optimizer: Keras ignores changed flags until then.
    """
    free = {id(block) for block in unfrozen_blocks(staged, stage)}
    # The head first: a layer of it passes its flag on to one of the backbone that it is tied to.
    for layer in staged.head_layers:
        layer.trainable = True
    for block in staged.backbone.blocks:
        for layer in iter_layers(*block.layers):
            frozen_norm = _is_batch_norm(layer) and not stage.train_batch_norm
            layer.trainable = id(block) in free and not frozen_norm
    if stage.adapter is not None:
        # After the layers' flags, each of which sets those of its variables.
        own = _unfrozen_layers(staged, stage)
        train = set(map(id, adapter_variables(own)))
        for variable in (each for layer in own for each in layer.variables):
            variable.trainable = id(variable) in train


def _unfrozen_layers(staged: StagedModel, stage: Stage) -> list[keras.Layer]:
    return [layer for block in unfrozen_blocks(staged, stage) for layer in block.layers]


def may_move(staged: StagedModel, stage: Stage) -> dict[str, keras.Variable]:
    """Returns {path: variable} of what a stage may move, from the recipe and not from the flags.

    The audit compares against this rather than against `trainable_variables`, so that a flag which
    was set wrongly shows.
    """
    unfrozen = _unfrozen_layers(staged, stage)
    free = set(map(id, staged.head_variables))
    if stage.adapter is not None:
        free |= set(map(id, adapter_variables(unfrozen)))
    else:
        parts = list(iter_layers(*staged.head_layers, *unfrozen))
        held = [part for part in parts if _is_batch_norm(part) and not stage.train_batch_norm]
        free = (free | _variable_ids(unfrozen)) - _variable_ids(held)
    return {name: v for name, v in named_variables(staged).items() if id(v) in free}


def trained_batch_norms(staged: StagedModel, stage: Stage) -> list[keras.layers.BatchNormalization]:
    """Returns the layers whose statistics a stage moves; the flags must be set."""
    layers = iter_layers(*staged.head_layers, *_unfrozen_layers(staged, stage))
    return [layer for layer in layers if _is_batch_norm(layer) and layer.trainable]


def named_variables(staged: StagedModel) -> dict[str, keras.Variable]:
    """Returns {path: variable} of every variable but the states of random seeds.

    Where variables have the same path, as of a layer in the head and one in the backbone, the
    second is called "PATH#2" and so on: none may hide behind another.
    """
    return _by_path(each for each in staged.model.variables if not _is_random_state(each))


def random_states(staged: StagedModel) -> dict[str, keras.Variable]:
    """Returns {number: variable} of the states of random seeds, in the model's order.

    Their paths say nothing: Keras numbers them through all models of a process.
    """
    found = [each for each in staged.model.variables if _is_random_state(each)]
    return {f"{number:05d}": variable for number, variable in enumerate(found)}


def _by_path(variables: Iterable[keras.Variable]) -> dict[str, keras.Variable]:
    found: dict[str, keras.Variable] = {}
    for variable in variables:
        name, number = variable.path, 1
        while name in found:
            number += 1
            name = f"{variable.path}#{number}"
        found[name] = variable
    return found


def _is_random_state(variable: keras.Variable) -> bool:
    return variable.path.endswith("seed_generator_state")


def _is_batch_norm(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def _variable_ids(layers: Iterable[keras.Layer]) -> set[int]:
    return {id(variable) for layer in layers for variable in layer.variables}
