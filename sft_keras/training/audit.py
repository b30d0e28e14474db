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
    is_batch_norm,
    may_move,
    named_variables,
    variable_ids,
)
from sft_keras.training.optimizers import peak_learning_rate


@dataclasses.dataclass(frozen=True)
class Audit:
    """Which variables a stage changed.

    Attributes:
      trained_layers: Layers with a variable that changed.
      moved_variables: Number of variables that changed.
      frozen_variables: Number of variables that had to stay the same.
      frozen_identical: Whether those are bit-identical. (If not, the run ends with an error.)
      batch_norm_frozen_identical: Number of frozen BatchNormalization layers, whose statistics are
        bit-identical.
      unmoved_trainable: Trainable variables that did not change, such as unused or saturated ones.
    """

    trained_layers: tuple[str, ...]
    moved_variables: int
    frozen_variables: int
    frozen_identical: bool
    batch_norm_frozen_identical: int
    unmoved_trainable: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the audit as plain values."""
        values = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def fingerprints(staged: StagedModel) -> dict[str, str]:
    """Return {path: SHA-256 of the bytes} of every variable except random states."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(variable.numpy()).tobytes()).hexdigest()
        for name, variable in named_variables(staged).items()
    }


def audit_stage(staged: StagedModel, stage: Stage, before: Mapping[str, str]) -> Audit:
    """Compare the variables with their fingerprints from before the stage.

    Args:
      staged: The model after the stage, with the stage's `trainable` flags.
      stage: The stage.
      before: The `fingerprints` before the stage.

    Raises:
      AuditError: If no trainable variable changed or a frozen one did; the message names them.
    """
    after = fingerprints(staged)
    free = may_move(staged, stage)
    moved = {path for path in after if after[path] != before[path]}
    strays = sorted(moved - free.keys())
    if strays:
        raise AuditError(
            f"Stage {stage.name!r} changed variables that should have stayed frozen "
            f"({len(strays)} of {len(after) - len(free)}): {_first_few(strays)}. "
            "The result of this run cannot be trusted."
        )
    trainable = {path for path, variable in free.items() if variable.trainable}
    if not moved & trainable:
        raise AuditError(
            f"Stage {stage.name!r} trained nothing: none of its {len(trainable)} trainable "
            f"variables changed ({_first_few(sorted(trainable)) or 'there are none'}). "
            f"Its learning rate is {peak_learning_rate(stage):g}; raise it or check the data."
        )
    norms = [layer for layer in iter_layers(*staged.model.layers) if is_batch_norm(layer)]
    return Audit(
        trained_layers=tuple(dict.fromkeys(_layer_of(path) for path in after if path in moved)),
        moved_variables=len(moved),
        frozen_variables=len(after) - len(free),
        frozen_identical=True,
        batch_norm_frozen_identical=sum(
            variable_ids([norm]).isdisjoint(map(id, free.values())) for norm in norms
        ),
        unmoved_trainable=tuple(sorted(trainable - moved)),
    )


def _layer_of(path: str) -> str:
    return path.rsplit("/", 1)[0]


def _first_few(paths: list[str], limit: int = 8) -> str:
    shown = ", ".join(paths[:limit])
    return f"{shown}, ..." if len(paths) > limit else shown


def require_same_weights(staged: StagedModel, devices: Devices, when: str) -> None:
    """Check that all workers hold the same weights, bit for bit.

    Raises:
      ClusterError: If one does not, so that they did not train one model.
    """
    if devices.num_workers > 1:
        devices.require_same(f"weights {when}", json.dumps(fingerprints(staged)))
