"""The backbone and the data of a recipe, opened before the long work starts."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.core.errors import BackboneError, DataError, SFTError, numbered
from sft_keras.data.examples import DataInfo, Splits
from sft_keras.data.prepared import Prepared
from sft_keras.models.lora import attach_adapters, layers_to_adapt
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage


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
    recipe.task.check_against_data(recipe, splits.info)
    for stage in recipe.stages:
        # These refuse what the backbone cannot do, before the long work.
        backbone.split(stage.unfreeze)
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


_HEAD, _ADAPTERS = 1, 2  # tell seeds from that of the backbone


def build_staged(recipe: Recipe, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
    """Returns the backbone with a new head."""
    # Seeded anew, so that the head begins alike however many numbers the backbone has drawn; and
    # with another seed than it, or dropout in the head would draw what dropout there draws.
    (seed,) = np.random.SeedSequence([recipe.seed, _HEAD]).generate_state(1)
    keras.utils.set_random_seed(int(seed))
    return recipe.task.build_model(backbone, info)


def stage_adapters(
    staged: StagedModel, recipe: Recipe, stage: Stage
) -> contextlib.AbstractContextManager[None]:
    """Returns the block in which a stage's adapters are in the model; see `attach_adapters`."""
    index = recipe.number_of(stage)
    seed = np.random.SeedSequence([recipe.seed, _ADAPTERS, index]).generate_state(1)
    return attach_adapters(staged.backbone, stage, int(seed[0]))
