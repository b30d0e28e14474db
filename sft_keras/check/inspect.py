"""The check of a recipe's data: what would spoil a result or make it worse, before it trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from sft_keras.check.class_balance import label_findings
from sft_keras.check.dataset_view import Together
from sft_keras.check.duplicate_findings import near_findings, same_findings
from sft_keras.check.features import frozen_features
from sft_keras.check.findings import Checked, Example, Finding
from sft_keras.check.image_files import image_file_findings
from sft_keras.check.label_errors import FEWEST, wrong_label_findings
from sft_keras.core.errors import UnreadableError
from sft_keras.core.reporter import Reporter
from sft_keras.data.examples import SPLITS, DataInfo, Examples, Splits
from sft_keras.data.prepared import Prepared
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.recipe import Recipe
from sft_keras.training.setup import build_staged, open_backbone_and_data


def check_data(recipe: Recipe, reporter: Reporter) -> tuple[Checked, Mapping[str, Prepared]]:
    """Reads all of a recipe's data and looks for faults in it.

    Args:
      recipe: Whose data is checked, read as a run of it would; its backbone says what is alike.
      reporter: Receives log lines and progress.

    Returns:
      (what was found, the splits without what cannot be read).

    Raises:
      SFTError: If there is no data, or the backbone cannot be had.
    """
    drops_same = _drops_same(recipe)
    with configured_keras(recipe):
        backbone, splits = open_backbone_and_data(_keeping_same(recipe))
        reporter.line(f"data  {splits.info.summary()}")
        prepared, findings = _read(splits, recipe, reporter)
        info = splits.info
        findings += label_findings(info)
        findings += [*_empty(info), *_kind_findings(recipe, prepared, reporter)]
        together = Together(prepared, info)
        findings += same_findings(together, drops_same)
        staged = build_staged(recipe, backbone, info)
        more, skipped = _by_features(staged, recipe, prepared, together, info, reporter)
    found = sorted([*findings, *more], key=lambda finding: not finding.spoils)
    return Checked(info.as_json(), found, skipped), prepared


def _drops_same(recipe: Recipe) -> bool:
    """Whether a run leaves out what is the same by itself."""
    clean = getattr(recipe.task, "clean", None)
    return clean is not None and clean.duplicates


def _keeping_same(recipe: Recipe) -> Recipe:
    """Returns the recipe as it reads all examples, so that those that are the same can be named."""
    if not _drops_same(recipe):
        return recipe
    clean = dataclasses.replace(recipe.task.clean, duplicates=False)
    return dataclasses.replace(recipe, task=dataclasses.replace(recipe.task, clean=clean))


def quick_check(prepared: Mapping[str, Prepared], info: DataInfo) -> list[Finding]:
    """Returns what shows at no cost, what would spoil a run's result first."""
    together = Together(prepared, info)
    found = [*label_findings(info), *same_findings(together, drops_same=False)]
    return sorted(found, key=lambda finding: not finding.spoils)


def _read(
    splits: Splits, recipe: Recipe, reporter: Reporter
) -> tuple[dict[str, Prepared], list[Finding]]:
    """Reads the splits; what cannot be read is left out, and found."""

    def progress(done: int, total: int) -> None:
        reporter.progress(f"reading {done}/{total}")

    try:
        return recipe.task.preprocess(splits, recipe, progress), []
    except UnreadableError as error:
        unreadable = error.reasons
    parts = {
        name: _without(split, unreadable.get(name, {}).keys())
        for name, split in splits.by_name().items()
    }
    groups = tuple(
        (Example(split, name, reason),)
        for split, reasons in unreadable.items()
        for name, reason in reasons.items()
    )
    finding = Finding(
        "unreadable",
        "They cannot be decoded, and a run on this data ends before it begins. Mend them, remove "
        "them or exclude them.",
        groups,
        spoils=True,
    )
    left = dataclasses.replace(splits, **parts)
    return recipe.task.preprocess(left, recipe, progress), [finding]


def _without(examples: Examples, ids: Sequence[str]) -> Examples:
    unwanted = set(ids)
    kept = [index for index, name in enumerate(examples.ids) if name not in unwanted]
    return examples if not unwanted else examples.subset(np.array(kept, np.int64))


def _kind_findings(
    recipe: Recipe, prepared: Mapping[str, Prepared], reporter: Reporter
) -> list[Finding]:
    """Returns what is wrong with images or texts as such."""
    spec = prepared["train"].examples.stream(None).element_spec
    if "image" in spec:
        return image_file_findings(
            {name: prepared[name].examples for name in SPLITS},
            recipe.backbone.image_size,
            lambda done, total: reporter.progress(f"headers {done}/{total}"),
        )
    cut_off = sum(part.facts.get("cut_off", 0) for part in prepared.values())
    texts = sum(part.facts.get("texts", 0) for part in prepared.values())
    if not cut_off:
        return []
    return [
        Finding(
            "over-long texts",
            f"{cut_off} of {texts} are longer than task.sequence_length and lose their end. Raise "
            "it if the backbone allows, or make sure that the beginning is enough.",
        )
    ]


def _empty(info: DataInfo) -> list[Finding]:
    count = info.facts.get("dropped", {}).get("empty", 0)
    if not count:
        return []
    what = f"{count} texts are empty once they are cleaned; a run leaves them out."
    return [Finding("empty texts", what)]


def _by_features(
    staged: StagedModel,
    recipe: Recipe,
    prepared: Mapping[str, Prepared],
    together: Together,
    info: DataInfo,
    reporter: Reporter,
) -> tuple[list[Finding], list[str]]:
    """Returns what the backbone's features show, and what they could not be asked for."""
    if not recipe.task.supports_views or any(
        part.parents is not None for part in prepared.values()
    ):
        return [], [f"near-duplicates and wrong labels, which {type(recipe.task).__name__} has not"]
    features = frozen_features(staged, recipe, prepared, info, reporter)
    findings = near_findings(features, prepared, together, reporter)
    if not together.one_label or info.num_classes < 2:
        return findings, ["wrong labels, where examples have not one class each"]
    counts = np.bincount(together.labels, minlength=info.num_classes)
    if counts[counts > 0].min() < 2 or counts.sum() < FEWEST:
        return findings, ["wrong labels, with so few examples"]
    reporter.progress("a probe on the features")
    return [*findings, *wrong_label_findings(features, together, recipe.seed)], []
