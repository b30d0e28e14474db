"""Open the backbone and the data of a recipe, and build its model."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
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
from sft_keras.tasks.base import build_task


def open_backbone_and_data(recipe: Recipe) -> tuple[BuiltBackbone, Splits]:
    """Build the backbone and list the data, before the long work starts.

    Raises:
      BackboneError: If the backbone cannot be built or cannot do what a stage requires.
      DataError: If the data cannot be listed; if both fail, one error lists both reasons.
      RecipeError: If the recipe does not fit the data.
    """
    task = build_task(recipe)
    opened: list[Any] = []
    faults: list[SFTError] = []
    for open_part in (
        task.build_backbone,
        lambda: task.open_data(recipe.seed),
    ):
        try:
            opened.append(open_part())
        except (BackboneError, DataError) as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise DataError(numbered("The run cannot start.", [str(error) for error in faults]))
    backbone, splits = opened
    task.with_info(splits.info).check_against_data()
    _require_blocks(backbone, recipe.stages)
    for stage in recipe.stages:
        layers_to_adapt(backbone, stage)  # raises if the stage's layers cannot have adapters
    return backbone, splits


def _require_blocks(backbone: BuiltBackbone, stages: Sequence[Stage]) -> None:
    """Check that the backbone has as many blocks as each stage unfreezes."""
    fields = {f"stages.{stage.name}.unfreeze": stage.unfreeze for stage in stages}
    found = (backbone.unfreeze_fault(value, field) for field, value in fields.items())
    faults = [fault for fault in found if fault is not None]
    if faults:
        headline = "The stages unfreeze more blocks than the backbone has."
        raise BackboneError(faults[0] if len(faults) == 1 else numbered(headline, faults))


def digest_of_splits(prepared: Mapping[str, Prepared]) -> str:
    """Return a digest of all splits: their example ids, contents and labels."""
    digest = hashlib.sha256()
    for name, split in prepared.items():
        digest.update(json.dumps([name, list(split.examples.ids)]).encode())
        for array in (split.examples.labels, split.digests):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


_HEAD, _ADAPTERS = 1, 2  # make their seeds differ from the backbone's


def build_staged(recipe: Recipe, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
    """Return the backbone with a newly initialised head."""
    # Seeded again, so that the head does not depend on how many numbers the backbone drew; and with
    # another seed, or dropout in the head would draw the same masks as in the backbone.
    (seed,) = np.random.SeedSequence([recipe.seed, _HEAD]).generate_state(1)
    keras.utils.set_random_seed(int(seed))
    return build_task(recipe, info).build_model(backbone)


def stage_adapters(
    staged: StagedModel, recipe: Recipe, stage: Stage
) -> contextlib.AbstractContextManager[None]:
    """Return a context manager that attaches a stage's LoRA adapters, see `attach_adapters`."""
    index = recipe.number_of(stage)
    seed = np.random.SeedSequence([recipe.seed, _ADAPTERS, index]).generate_state(1)
    return attach_adapters(staged.backbone, stage, int(seed[0]))
