"""The weight audit: prove which variables a stage changed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from sft_keras.backbones.layers import iter_layers
from sft_keras.core.errors import AuditError
from sft_keras.distributed.devices import Devices
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.stage import Stage
from sft_keras.training.freezing import (
    _is_batch_norm,
    _variable_ids,
    may_move,
    named_variables,
)


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
    norms = [layer for layer in iter_layers(*staged.model.layers) if _is_batch_norm(layer)]
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


def _layer_of(path: str) -> str:
    return path.rsplit("/", 1)[0]


def _some(paths: list[str], limit: int = 8) -> str:
    shown = ", ".join(paths[:limit])
    return f"{shown}, ..." if len(paths) > limit else shown


def require_same_weights(staged: StagedModel, devices: Devices, when: str) -> None:
    """Checks that all workers hold the same weights bit for bit.

    Raises:
      ClusterError: If one does not: what they trained was not one model.
    """
    if devices.num_workers > 1:
        devices.require_same(f"weights {when}", json.dumps(fingerprints(staged)))
