"""The check of a recipe's data: what would spoil a result or make it worse, before it trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sft_keras.check.closer_look import closer_look
from sft_keras.check.duplicates import groups_of_near, groups_of_same, near_pairs
from sft_keras.check.features import frozen_features
from sft_keras.check.findings import Checked, Example, Finding
from sft_keras.check.image_files import image_file_findings
from sft_keras.check.label_errors import likely_label_errors, out_of_fold_probabilities
from sft_keras.check.labels import label_findings
from sft_keras.data.examples import SPLITS, DataInfo, Examples, Splits
from sft_keras.data.prepared import Prepared
from sft_keras.environment import keras_for
from sft_keras.errors import UnreadableError
from sft_keras.opening import open_backbone_and_data
from sft_keras.recipe import Recipe
from sft_keras.staged_model import StagedModel
from sft_keras.training import build_staged

_LEAKED = 0.01  # share of the validation or test split; beyond it the score is not to be trusted
_NEAR = 0.7  # cosine; a closer look then tells the same picture from another of its kind
_FEWEST = 20  # examples, below which a probe tells nothing


def check_data(
    recipe: Recipe, say: Callable[[str], None], tick: Callable[[str], None]
) -> tuple[Checked, Mapping[str, Prepared]]:
    """Reads all of a recipe's data and looks for faults in it.

    Args:
      recipe: Whose data is checked, read as a run of it would; its backbone says what is alike.
      say: Takes a line to show.
      tick: Takes a line to show for a moment, on a terminal.

    Returns:
      (what was found, the splits without what cannot be read).

    Raises:
      SFTError: If there is no data, or the backbone cannot be had.
    """
    drops_same = _drops_same(recipe)
    with keras_for(recipe):
        backbone, splits = open_backbone_and_data(_keeping_same(recipe))
        say(f"data  {splits.info.summary()}")
        prepared, findings = _read(splits, recipe, tick)
        info = splits.info
        findings += label_findings(info, prepared)
        findings += [*_empty(info), *_kind_findings(recipe, prepared, tick)]
        together = _Together(prepared)
        findings += _same(together, info, drops_same)
        staged = build_staged(recipe, backbone, info)
        more, skipped = _by_features(staged, recipe, prepared, together, info, say, tick)
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


def short_check(prepared: Mapping[str, Prepared], info: DataInfo) -> list[str]:
    """Returns what would spoil a run's result, as far as it shows at no cost, a sentence each."""
    together = _Together(prepared)
    found = [*label_findings(info, prepared), *_same(together, info, drops_same=False)]
    return [
        f"{finding.kind.capitalize()}: {finding.count} examples. {finding.what}"
        if finding.count
        else finding.what
        for finding in found
        if finding.spoils
    ]


class _Together:
    """The examples of all splits, one after the other."""

    def __init__(self, prepared: Mapping[str, Prepared]) -> None:
        parts = [(name, prepared[name]) for name in SPLITS]
        self.ids = [(name, each) for name, part in parts for each in part.examples.ids]
        self.digests = np.concatenate([part.digests for _, part in parts])
        self.labels = np.concatenate([part.examples.labels for _, part in parts])
        self.one_label = all(part.examples.occurrences is None for _, part in parts)
        self.sizes = {name: len(part.examples) for name, part in parts}

    def group(self, members: Sequence[int], note: Callable[[int], str]) -> tuple[Example, ...]:
        """Returns examples by their numbers, those to keep first: of test before of train."""
        order = ("test", "validation", "train")
        found = [Example(*self.ids[index], note(index)) for index in members]
        return tuple(sorted(found, key=lambda example: order.index(example.split)))


def _read(
    splits: Splits, recipe: Recipe, tick: Callable[[str], None]
) -> tuple[dict[str, Prepared], list[Finding]]:
    """Reads the splits; what cannot be read is left out, and found."""

    def progress(done: int, total: int) -> None:
        tick(f"reading {done}/{total}")

    try:
        return recipe.task.prepare(splits, recipe, progress), []
    except UnreadableError as error:
        unreadable = error.reasons
    parts = {
        split.name: _without(split, unreadable.get(split.name, {}).keys())
        for split in (splits.train, splits.validation, splits.test)
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
    return recipe.task.prepare(left, recipe, progress), [finding]


def _without(examples: Examples, ids: Sequence[str]) -> Examples:
    unwanted = set(ids)
    kept = [index for index, name in enumerate(examples.ids) if name not in unwanted]
    return examples if not unwanted else examples.subset(np.array(kept, np.int64))


def _kind_findings(
    recipe: Recipe, prepared: Mapping[str, Prepared], tick: Callable[[str], None]
) -> list[Finding]:
    """Returns what is wrong with images or texts as such."""
    spec = prepared["train"].examples.stream(None).element_spec
    if "image" in spec:
        return image_file_findings(
            {name: prepared[name].examples for name in SPLITS},
            recipe.backbone.image_size,
            lambda done, total: tick(f"headers {done}/{total}"),
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


def _same(together: _Together, info: DataInfo, drops_same: bool) -> list[Finding]:
    """Returns examples that are read as exactly the same."""
    groups = groups_of_same(together.digests)
    found = _duplicate_findings(
        together,
        groups,
        info,
        ("same across splits", "same within a split", "same with different labels"),
        "exactly the same",
        lambda index: _label(together, info, index),
    )
    if not drops_same:
        return found
    dropped = " A run of this recipe leaves them out by itself (task.clean.duplicates)."
    # Of those with different labels it keeps each label once within a split.
    return [
        finding
        if "labels" in finding.kind
        else dataclasses.replace(finding, spoils=False, what=finding.what + dropped)
        for finding in found
    ]


def _duplicate_findings(
    together: _Together,
    groups: Sequence[Sequence[int]],
    info: DataInfo,
    kinds: tuple[str, str, str],
    how: str,
    note: Callable[[int], str],
) -> list[Finding]:
    across, within, differ = [], [], []
    leaked: dict[str, int] = dict.fromkeys(SPLITS, 0)
    for members in groups:
        splits = {together.ids[index][0] for index in members}
        labels = {together.labels[index] for index in members}
        if together.one_label and len(labels) > 1:
            differ.append(members)
        elif len(splits) > 1:
            across.append(members)
        else:
            within.append(members)
        if len(splits) > 1:
            for index in members:
                leaked[together.ids[index][0]] += 1
    worst = max(leaked[name] / max(together.sizes[name], 1) for name in ("validation", "test"))
    made = [
        (
            kinds[0],
            f"Of {how} examples some are in one split and some in another: the score is partly of "
            f"what was learnt by heart ({worst:.1%} of a split). Leave out all but one.",
            across,
            worst > _LEAKED,
            True,
        ),
        (
            kinds[2],
            f"Examples are {how} and have different labels: at most one of these is right.",
            differ,
            sum(map(len, differ)) > _LEAKED * sum(together.sizes.values()),
            False,
        ),
        (kinds[1], f"Examples are {how}; they count several times.", within, False, True),
    ]
    return [
        Finding(
            kind, what, tuple(together.group(each, note) for each in groups), spoils, keeps_first
        )
        for kind, what, groups, spoils, keeps_first in made
        if groups
    ]


def _by_features(
    staged: StagedModel,
    recipe: Recipe,
    prepared: Mapping[str, Prepared],
    together: _Together,
    info: DataInfo,
    say: Callable[[str], None],
    tick: Callable[[str], None],
) -> tuple[list[Finding], list[str]]:
    """Returns what the backbone's features show, and what they could not be asked for."""
    if not recipe.task.takes_views or any(part.parts_of is not None for part in prepared.values()):
        return [], [f"near-duplicates and wrong labels, which {type(recipe.task).__name__} has not"]
    features = frozen_features(staged, recipe, prepared, info, say, tick)
    findings = _near(features, prepared, together, info, tick)
    if not together.one_label or info.num_classes < 2:
        return findings, ["wrong labels, where examples have not one class each"]
    counts = np.bincount(together.labels, minlength=info.num_classes)
    if counts[counts > 0].min() < 2 or counts.sum() < _FEWEST:
        return findings, ["wrong labels, with so few examples"]
    tick("a probe on the features")
    probabilities = out_of_fold_probabilities(features, together.labels, recipe.seed)
    return [*findings, *_wrong_labels(probabilities, together, info)], []


def _near(
    features: np.ndarray,
    prepared: Mapping[str, Prepared],
    together: _Together,
    info: DataInfo,
    tick: Callable[[str], None],
) -> list[Finding]:
    same = {
        index: number
        for number, members in enumerate(groups_of_same(together.digests))
        for index in members
    }
    look = closer_look(prepared)

    def confirms(first: int, second: int) -> bool:
        if first in same and same[first] == same.get(second):
            return False  # found as the same already
        return look(first, second)

    pairs = near_pairs(
        features, _NEAR, confirms, lambda done, total: tick(f"near-duplicates {done}/{total}")
    )
    likeness: dict[int, float] = {}
    for pair in pairs:
        for index in (pair.first, pair.second):
            likeness[index] = max(likeness.get(index, -1.0), pair.similarity)
    return _duplicate_findings(
        together,
        groups_of_near(pairs, len(features)),
        info,
        (
            "nearly the same across splits",
            "nearly the same within a split",
            "nearly the same with different labels",
        ),
        "nearly the same",
        lambda index: f"{_label(together, info, index)} {likeness[index]:.3f}".strip(),
    )


def _wrong_labels(probabilities: np.ndarray, together: _Together, info: DataInfo) -> list[Finding]:
    classes, columns = np.unique(together.labels, return_inverse=True)
    suspects = likely_label_errors(probabilities, columns)
    groups = tuple(
        together.group(
            [each.index],
            lambda index, each=each: (
                f"labelled {info.class_names[together.labels[index]]}, like "
                f"{info.class_names[classes[each.suggested]]} ({each.probability:.0%} against "
                f"{each.own:.0%})"
            ),
        )
        for each in suspects
    )
    if not groups:
        return []
    share = len(groups) / len(together.labels)
    right = float((probabilities.argmax(axis=1) == columns).mean())
    return [
        Finding(
            "likely wrong labels",
            f"A probe that did not train on them takes them for another class ({share:.1%} of all). "
            f"It agrees with {right:.0%} of all labels: the fewer these are, the more of what it "
            "names is only difficult. Look at them, those least in doubt first, and mend or exclude "
            "what is wrong.",
            groups,
        )
    ]


def _label(together: _Together, info: DataInfo, index: int) -> str:
    return info.class_names[together.labels[index]] if together.one_label else ""
