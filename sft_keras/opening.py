"""The backbone and the data of a recipe, opened before the long work starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from sft_keras.adapters import layers_to_adapt
from sft_keras.backbones import BuiltBackbone
from sft_keras.data.examples import Splits
from sft_keras.data.prepared import Prepared
from sft_keras.errors import BackboneError, DataError, SFTError, numbered
from sft_keras.recipe import Recipe


def open_backbone_and_data(recipe: Recipe) -> tuple[BuiltBackbone, Splits]:
    """Builds the backbone and lists the data; what either lacks is said in one error."""
    found: list[Any] = []
    missing: list[SFTError] = []
    for opening in (
        lambda: recipe.task.build_backbone(recipe),
        lambda: recipe.task.open_data(recipe, recipe.seed),
    ):
        try:
            found.append(opening())
        except (BackboneError, DataError) as error:
            missing.append(error)
    if len(missing) == 1:
        raise missing[0]
    if missing:
        raise DataError(numbered("The run cannot start.", [str(error) for error in missing]))
    backbone, splits = found
    recipe.task.require_fit(recipe, splits.info)
    for stage in recipe.stages:
        # These refuse what the backbone cannot do, before the long work.
        backbone.cut(stage.unfreeze)
        layers_to_adapt(backbone, stage)
    return backbone, splits


def digest_of_splits(prepared: Mapping[str, Prepared]) -> str:
    """Returns a digest of all splits: of which examples they have, as read, with which labels."""
    found = hashlib.sha256()
    for name, split in prepared.items():
        found.update(json.dumps([name, list(split.examples.ids)]).encode())
        for array in (split.examples.labels, split.digests):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
