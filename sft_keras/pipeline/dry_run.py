"""`--dry_run`: build everything, run a few batches of each stage, estimate the whole run."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psutil

from sft_keras.backbones.layers import count_parameters
from sft_keras.cache.feature_cache import FeatureCache, StageInput
from sft_keras.check.class_balance import label_findings
from sft_keras.core.reporter import SILENT
from sft_keras.data.examples import DataInfo, Examples, Splits
from sft_keras.data.notes import data_lines, truncation_note
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage, stage_length
from sft_keras.tasks.base import build_task
from sft_keras.training.prepare import prepare_stage
from sft_keras.training.setup import build_staged, open_backbone_and_data, stage_adapters

_BATCHES = 3  # the first one traces and allocates; the fastest counts
_MEGABYTE = 2**20


def dry_run(recipe: Recipe) -> Iterator[str]:
    """Yield lines about model, stages, time and memory as they become known. Leaves no files."""
    with tempfile.TemporaryDirectory() as folder, configured_keras(recipe):
        # Its cached features, of a few examples only, must not reach the run's cache.
        store = dataclasses.replace(recipe.store, folder=folder)
        recipe = dataclasses.replace(recipe, store=store)
        backbone, splits = open_backbone_and_data(recipe)
        info = splits.info
        yield from data_lines(info)
        yield from (f"note  {finding.describe()}" for finding in label_findings(info))
        began = time.perf_counter()
        few = _first(splits, _BATCHES * recipe.data.batch_size)
        prepared = build_task(recipe).preprocessor.preprocess(few, lambda done, total: None)
        read = sum(map(len, few.by_name().values()))
        reading = (time.perf_counter() - began) / read * sum(info.sizes.values())
        yield f"read  {reading:.0f} s for all examples, estimated from {read}"
        if truncated := truncation_note(prepared):
            yield f"note  {truncated} Only {read} examples were read here."
        staged = build_staged(recipe, backbone, info)
        blocks = ", ".join(block.name for block in backbone.blocks)
        total = count_parameters(staged.model.weights)
        yield f"model  {recipe.backbone.preset}: {total:,} parameters; blocks {blocks}"
        yield from (f"note  {note}" for note in backbone.notes)
        yield f"shapes  {staged.model.input_shape} -> {backbone.model.output_shape} -> " + str(
            staged.model.output_shape
        )
        cache = FeatureCache(staged, recipe, prepared, info, reporter=SILENT)
        # Some tasks split an example into several parts.
        parts = len(prepared["train"].examples) / len(few.train)
        sizes = {name: round(size * parts) for name, size in info.sizes.items()}
        seconds = reading
        for stage in recipe.stages:
            began = time.perf_counter()
            source = cache.input_of(stage)
            scale = (sizes["train"] + sizes["validation"]) / sum(
                len(source.prepared[name].examples) for name in ("train", "validation")
            )
            computing = (time.perf_counter() - began) * scale
            with stage_adapters(staged, recipe, stage):
                line, expected = _try_stage(staged, recipe, stage, source, info, sizes)
            seconds += computing + expected
            yield f"{line}; frozen blocks {'once' if source.from_boundary else 'in every epoch'}"
        yield f"whole run  about {seconds / 60:.1f} minutes, without evaluation and export"
        yield f"memory  {_memory(recipe, sizes, total)}"


def _try_stage(
    staged: StagedModel,
    recipe: Recipe,
    stage: Stage,
    source: StageInput,
    info: DataInfo,
    sizes: Mapping[str, int],
) -> tuple[str, float]:
    """Run a few batches of a stage; return a line about it and its expected seconds."""
    task, batch_size = build_task(recipe, info), recipe.data.batch_size
    if stage.learning_rate == "auto":  # the duration does not depend on the rate
        stage = dataclasses.replace(stage, learning_rate=1e-3)
    length = stage_length(stage, sizes["train"], batch_size)
    model = prepare_stage(
        staged,
        stage,
        length.steps,
        task.objective.loss(stage),
        task.objective.metrics(),
        source.from_boundary,
    )
    training = task.batches.training(source.prepared["train"], stage)
    validation = task.batches.evaluation(source.prepared["validation"])
    step = min(_seconds(model.train_on_batch, *batch) for batch in training.take(_BATCHES))
    check = min(_seconds(model.test_on_batch, *batch) for batch in validation.take(_BATCHES))
    rounds = math.ceil(sizes["validation"] / batch_size)
    expected = length.steps * step + length.epochs * rounds * check
    trainable = count_parameters(model.trainable_variables)
    line = (
        f"stage {stage.name}  unfreeze {stage.unfreeze}: {model.input_shape} in; {trainable:,} "
        f"parameters train; {length.steps} steps of {step:.3f} s, {expected:.0f} s with validation"
    )
    return line, expected


def _first(splits: Splits, count: int) -> Splits:
    """Return the splits truncated to their first `count` examples."""

    def truncated(examples: Examples) -> Examples:
        stream = examples.stream
        return dataclasses.replace(
            examples,
            ids=examples.ids[:count],
            labels=examples.labels[:count],
            stream=lambda seed: stream(None).take(count),
            paths=None,
            occurrences=None if examples.occurrences is None else examples.occurrences[:count],
            groups=None if examples.groups is None else examples.groups[:count],
        )

    return dataclasses.replace(
        splits,
        train=truncated(splits.train),
        validation=truncated(splits.validation),
        test=truncated(splits.test),
    )


def _seconds(function: Any, *arguments: Any) -> float:
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def _memory(recipe: Recipe, sizes: Mapping[str, int], parameters: int) -> str:
    input_megabytes = (
        sum(sizes.values()) * build_task(recipe).preprocessor.input_bytes() / _MEGABYTE
    )
    return (
        f"peak {_peak_bytes() / _MEGABYTE:,.0f} MB so far; "
        f"{parameters * 4 / _MEGABYTE:,.0f} MB of parameters; "
        f"{input_megabytes:,.0f} MB of inputs, kept in memory if they fit into "
        f"{recipe.data.memory_share:.0%} of the free memory"
    )


def _peak_bytes() -> int:
    """Return the largest memory of this process so far, or the present one if it is not known."""
    memory = psutil.Process().memory_info()
    with contextlib.suppress(ImportError):  # there is none on Windows, where psutil has the peak
        import resource  # noqa: TID251

        unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, else kilobytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return getattr(memory, "peak_wset", memory.rss)
