"""What trains in a stage, and the audit of what a stage really moved."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from sft_keras.adapters import adapter_variables
from sft_keras.backbones import Block
from sft_keras.errors import AuditError
from sft_keras.recipe import Stage
from sft_keras.staged_model import StagedModel


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
        for layer in _with_inner_layers(block.layers):
            frozen_norm = _is_batch_norm(layer) and not stage.train_batch_norm
            layer.trainable = id(block) in free and not frozen_norm
    if stage.adapter is not None:
        # After the layers' flags, each of which sets those of its variables.
        own = _unfrozen_layers(staged, stage)
        train = set(map(id, adapter_variables(own)))
        for variable in (each for layer in own for each in layer.variables):
            variable.trainable = id(variable) in train


def unfrozen_blocks(staged: StagedModel, stage: Stage) -> tuple[Block, ...]:
    """Returns the blocks that train in a stage, from input to output."""
    return staged.backbone.top(stage.unfreeze)


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
        parts = _with_inner_layers([*staged.head_layers, *unfrozen])
        held = [part for part in parts if _is_batch_norm(part) and not stage.train_batch_norm]
        free = (free | _variable_ids(unfrozen)) - _variable_ids(held)
    return {name: v for name, v in named_variables(staged).items() if id(v) in free}


def trained_batch_norms(staged: StagedModel, stage: Stage) -> list[keras.layers.BatchNormalization]:
    """Returns the layers whose statistics a stage moves; the flags must be set."""
    layers = _with_inner_layers([*staged.head_layers, *_unfrozen_layers(staged, stage)])
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


@dataclasses.dataclass(frozen=True)
class Audit:
    """What a stage moved.

    Attributes:
      trained_layers: Layers of which a variable moved.
      moved_variables: How many variables moved.
      frozen_variables: How many variables had to stay as they were.
      frozen_identical: Whether all of those are bit-identical. (Otherwise the run has stopped.)
      batch_norm_frozen_identical: How many frozen BatchNormalization layers kept their statistics
        bit for bit.
      unmoved_trainable: Trainable variables that did not move, as unused or saturated ones do.
    """

    trained_layers: tuple[str, ...]
    moved_variables: int
    frozen_variables: int
    frozen_identical: bool
    batch_norm_frozen_identical: int
    unmoved_trainable: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Returns the audit as plain values."""
        values = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def fingerprints(staged: StagedModel) -> dict[str, str]:
    """Returns {path: SHA-256 of the bytes} of every variable but the states of random seeds."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(variable.numpy()).tobytes()).hexdigest()
        for name, variable in named_variables(staged).items()
    }


def audit_stage(staged: StagedModel, stage: Stage, before: Mapping[str, str]) -> Audit:
    """Compares the variables with their fingerprints from before the stage.

    Raises:
      AuditError: If nothing moved, or something that should have stayed moved; it names them.
    """
    after = fingerprints(staged)
    free = may_move(staged, stage)
    moved = {path for path in after if after[path] != before[path]}
    strays = sorted(moved - free.keys())
    if strays:
        raise AuditError(
            f"Stage {stage.name!r} moved variables that were to stay frozen "
            f"({len(strays)} of {len(after) - len(free)}): {_some(strays)}. "
            "The result of this run cannot be trusted."
        )
    trainable = {path for path, variable in free.items() if variable.trainable}
    if not moved & trainable:
        raise AuditError(
            f"Stage {stage.name!r} trained nothing: none of its {len(trainable)} trainable "
            f"variables moved ({_some(sorted(trainable)) or 'there are none'}). "
            f"Its learning rate is {stage.learning_rate:g}; raise it or check the data."
        )
    norms = [layer for layer in _with_inner_layers(staged.model.layers) if _is_batch_norm(layer)]
    return Audit(
        trained_layers=tuple(dict.fromkeys(_layer_of(path) for path in after if path in moved)),
        moved_variables=len(moved),
        frozen_variables=len(after) - len(free),
        frozen_identical=True,
        batch_norm_frozen_identical=sum(
            _variable_ids([norm]).isdisjoint(map(id, free.values())) for norm in norms
        ),
        unmoved_trainable=tuple(sorted(trainable - moved)),
    )


def _with_inner_layers(layers: Iterable[keras.Layer]) -> list[keras.Layer]:
    """Returns `layers` and the layers inside them, outer ones first, each once."""
    found: dict[int, keras.Layer] = {}
    for layer in layers:
        found.update((id(part), part) for part in layer._flatten_layers())
    return list(found.values())


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


def _layer_of(path: str) -> str:
    return path.rsplit("/", 1)[0]


def _some(paths: list[str], limit: int = 8) -> str:
    shown = ", ".join(paths[:limit])
    return f"{shown}, ..." if len(paths) > limit else shown
