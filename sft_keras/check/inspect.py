"""Check a recipe's data for faults before training on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np

from sft_keras.check.class_balance import label_findings
from sft_keras.check.dataset_view import DatasetView
from sft_keras.check.duplicate_findings import duplicate_findings, near_duplicate_findings
from sft_keras.check.features import backbone_features
from sft_keras.check.findings import Checked, Example, Finding
from sft_keras.check.image_files import image_file_findings
from sft_keras.check.label_errors import MIN_EXAMPLES, label_error_findings
from sft_keras.check.pixels import one_colour_findings
from sft_keras.core.errors import UnreadableError
from sft_keras.core.reporter import Reporter
from sft_keras.data.examples import SPLITS, DataInfo, Examples, Splits
from sft_keras.data.notes import data_notes, report_data
from sft_keras.data.prepared import Prepared
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.recipe import Recipe
from sft_keras.tasks.base import build_task
from sft_keras.training.setup import build_staged, open_backbone_and_data


def check_data(recipe: Recipe, reporter: Reporter) -> tuple[Checked, Mapping[str, Prepared]]:
    """Read all data of a recipe and look for faults.

    Args:
      recipe: The recipe; its data is read as a run would, and the features of its backbone decide
        which examples are similar.
      reporter: Receives log lines and progress.

    Returns:
      (the findings, the splits without unreadable examples).

    Raises:
      SFTError: If there is no data, or the backbone cannot be loaded.

    Example:

    ```python
    checked, _ = check_data(load_recipe("my_images", []).recipe, CONSOLE)
    for finding in checked.findings:
        print(finding.describe())
    ```
    """
    keeping = dataclasses.replace(recipe, task=recipe.task.keeping_duplicates())
    with configured_keras(recipe):
        backbone, splits = open_backbone_and_data(keeping)
        info = splits.info
        report_data(reporter, info)
        for note in backbone.notes:
            reporter.line(f"note  {note}")
        prepared, findings = _prepare(splits, recipe, reporter)
        findings += label_findings(info)
        findings += [*_empty_texts(info), *_content_findings(recipe, prepared, reporter)]
        view = DatasetView(prepared, info)
        findings += duplicate_findings(view, recipe.task.drops_duplicates())
        staged = build_staged(recipe, backbone, info)
        by_features, skipped = _feature_findings(staged, recipe, prepared, view, info, reporter)
    findings = sorted([*findings, *by_features], key=lambda finding: not finding.spoils)
    about = {**info.as_json(), "notes": [*data_notes(info), *backbone.notes]}
    return Checked(about, findings, skipped), prepared


def quick_check(prepared: Mapping[str, Prepared], info: DataInfo) -> list[Finding]:
    """Return the findings that need no further computation, those that spoil results first."""
    view = DatasetView(prepared, info)
    findings = [*label_findings(info), *duplicate_findings(view, drops_duplicates=False)]
    return sorted(findings, key=lambda finding: not finding.spoils)


def _prepare(
    splits: Splits, recipe: Recipe, reporter: Reporter
) -> tuple[dict[str, Prepared], list[Finding]]:
    """Prepare the splits; unreadable examples are dropped and reported."""
    preprocessor = build_task(recipe, splits.info).preprocessor

    def progress(done: int, total: int) -> None:
        reporter.progress(f"reading {done}/{total}")

    try:
        return preprocessor.preprocess(splits, progress), []
    except UnreadableError as error:
        unreadable = error.reasons
    train, validation, test = (
        _without(split, unreadable.get(split.name, {}).keys())
        for split in (splits.train, splits.validation, splits.test)
    )
    readable = dataclasses.replace(splits, train=train, validation=validation, test=test)
    groups = tuple(
        (Example(split, name, reason),)
        for split, reasons in unreadable.items()
        for name, reason in reasons.items()
    )
    finding = Finding(
        "unreadable",
        "These files cannot be decoded, and a run on this data fails at the start. Repair, remove "
        "or exclude them.",
        groups,
        spoils=True,
    )
    return preprocessor.preprocess(readable, progress), [finding]


def _without(examples: Examples, ids: Collection[str]) -> Examples:
    unwanted = set(ids)
    kept = [index for index, name in enumerate(examples.ids) if name not in unwanted]
    return examples if not unwanted else examples.subset(np.array(kept, np.int64))


def _content_findings(
    recipe: Recipe, prepared: Mapping[str, Prepared], reporter: Reporter
) -> list[Finding]:
    """Return findings about the images or texts themselves."""
    if recipe.task.modality == "image":
        findings = image_file_findings(
            {name: prepared[name].examples for name in SPLITS},
            recipe.backbone.image_size,
            lambda done, total: reporter.progress(f"headers {done}/{total}"),
        )
        return [*findings, *one_colour_findings(prepared)]
    truncated = sum(split.facts.get("cut_off", 0) for split in prepared.values())
    texts = sum(split.facts.get("texts", 0) for split in prepared.values())
    if not truncated:
        return []
    return [
        Finding(
            "over-long texts",
            f"{truncated} of {texts} texts are longer than task.sequence_length and are truncated "
            "at the end. Raise it if the backbone allows, or make sure that the beginning is "
            "enough.",
        )
    ]


def _empty_texts(info: DataInfo) -> list[Finding]:
    count = info.facts.get("dropped", {}).get("empty", 0)
    if not count:
        return []
    return [Finding("empty texts", f"{count} texts are empty after cleaning; a run drops them.")]


def _feature_findings(
    staged: StagedModel,
    recipe: Recipe,
    prepared: Mapping[str, Prepared],
    view: DatasetView,
    info: DataInfo,
    reporter: Reporter,
) -> tuple[list[Finding], list[str]]:
    """Return the findings based on backbone features, and why others were skipped."""
    is_split_in_parts = any(split.parents is not None for split in prepared.values())
    if not recipe.task.supports_views or is_split_in_parts:
        task = type(recipe.task).__name__
        return [], [f"Near-duplicate and label-error checks are not available for {task}."]
    features = backbone_features(staged, recipe, prepared, info, reporter)
    findings = near_duplicate_findings(features, prepared, view, reporter)
    if not view.has_classes or info.num_classes < 2:
        return findings, ["The label-error check needs exactly one class per example."]
    counts = np.bincount(view.labels, minlength=info.num_classes)
    if counts[counts > 0].min() < 2 or counts.sum() < MIN_EXAMPLES:
        return findings, [
            f"The label-error check needs at least {MIN_EXAMPLES} examples, and two per class."
        ]
    reporter.progress("training a probe on the features")
    return [*findings, *label_error_findings(features, view, recipe.seed)], []
