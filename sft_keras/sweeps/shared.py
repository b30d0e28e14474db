"""What trials of one recipe share: opened data, built backbones, what frozen blocks gave."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping

import keras
import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.layers import iter_layers
from sft_keras.cache.memory import MemoryStore
from sft_keras.core.errors import BackboneError, DataError
from sft_keras.data.examples import DataInfo, Splits, concatenate
from sft_keras.data.prepared import Prepared
from sft_keras.recipe.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class TrialData:
    """The splits of one trial."""

    prepared: Mapping[str, Prepared]
    info: DataInfo


@dataclasses.dataclass(frozen=True)
class _AsBuilt:
    """A backbone, and what it was when it was new.

    Attributes:
      kind: All that decides on it but the seed.
      seed: What it was drawn with; None if it is the same with any.
      built: The backbone.
      values: Of its variables.
      nodes: Each operation of its graph, with the numbers of its uses: as (input, output).
    """

    kind: str
    seed: int | None
    built: BuiltBackbone
    values: list[np.ndarray]
    nodes: list[tuple[keras.Operation, tuple[int, int]]]

    @classmethod
    def of(cls, kind: str, seed: int | None, built: BuiltBackbone) -> _AsBuilt:
        """Notes what a new backbone is."""
        values = [np.array(variable.numpy()) for variable in built.model.variables]
        nodes = [
            (each, (len(each._inbound_nodes), len(each._outbound_nodes)))
            for each in _operations(built)
        ]
        return cls(kind, seed, built, values, nodes)

    def restored(self) -> BuiltBackbone:
        """Returns the backbone as it was."""
        for variable, value in zip(self.built.model.variables, self.values, strict=True):
            variable.assign(value)
        # A layer refers to whatever was built on it: the models of all trials would stay in memory.
        for operation, (inbound, outbound) in self.nodes:
            del operation._inbound_nodes[inbound:]
            del operation._outbound_nodes[outbound:]
        return self.built


class Workbench:
    """Opens and builds things once, and hands them out as they were at first.

    Attributes:
      memory: What frozen blocks gave, of all trials with the present data and backbone.
    """

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        """`progress` is called with (done, total) while examples are read."""
        self.memory = MemoryStore()
        self._progress = progress
        self._data: tuple[Hashable, Splits, dict[str, Prepared]] | None = None
        self._backbone: _AsBuilt | None = None
        self._refused: dict[str, BackboneError] = {}

    def data(self, recipe: Recipe, split_seed: int, folds: int | None) -> Iterator[TrialData]:
        """Yields the data of a recipe, or of each of its folds.

        Args:
          recipe: What is read, and how.
          split_seed: Of the splits, where the source has none, and of the folds.
          folds: Divides training and validation examples anew, stratified by class and by whole
            groups, so that each is validated once; the test split stays what it is. None for the
            splits as they are.

        Raises:
          DataError: If the data cannot be read, or a class has fewer examples than there are folds.
        """
        data = recipe.data
        source = data.source if isinstance(data.source, str) else id(data.source)
        shares = (data.validation, data.test, data.memory_share)
        key = (
            source,
            data.data_dir,
            *shares,
            split_seed,
            recipe.task.preprocessing_fingerprint(recipe),
            folds,
        )
        if self._data is None or self._data[0] != key:
            # Before the next is read: there may be no room for both.
            self._data = None
            self.memory.keep_only(())
            splits = recipe.task.open_data(recipe, split_seed)
            if folds is not None:
                splits = dataclasses.replace(
                    splits, train=concatenate(splits.train, splits.validation)
                )
                _require_enough(splits, folds)
            self._data = (key, splits, recipe.task.preprocess(splits, recipe, self._progress))
        _, splits, prepared = self._data
        if folds is None:
            yield TrialData(prepared, splits.info)
            return
        labels, groups = splits.train.labels, splits.train.groups
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        made = kind(folds, shuffle=True, random_state=split_seed)
        whole = prepared["train"]
        for number, (rest, held) in enumerate(made.split(labels, labels, groups), 1):
            parts = {"train": rest, "validation": held}
            chosen = {name: whole.subset(whole.rows_of(each)) for name, each in parts.items()}
            yield TrialData(
                {**chosen, "test": prepared["test"]}, _info_of_fold(splits, parts, number, folds)
            )

    def backbone(self, recipe: Recipe) -> BuiltBackbone:
        """Returns the recipe's backbone with the weights it began with.

        Those handed out before must no longer be used.

        Raises:
          BackboneError: If it cannot be built.
        """
        kind = repr((recipe.backbone, recipe.precision, recipe.task.backbone_fingerprint()))
        if kind in self._refused:
            raise self._refused[kind]  # not asked for again, which may take long
        held = self._backbone
        if held is None or held.kind != kind or held.seed not in (None, recipe.seed):
            is_random = recipe.backbone.weights is None
            if is_random or held is None or held.kind != kind:
                self.memory.keep_only(())
            held = self._backbone = None  # there may be no room for both
            try:
                built = recipe.task.build_backbone(recipe)
            except BackboneError as error:
                self._refused[kind] = error
                raise
            # Dropout begins where the seed says, whatever the weights.
            is_drawn = is_random or _has_random_state(built)
            held = _AsBuilt.of(kind, recipe.seed if is_drawn else None, built)
            self._backbone = held
        return held.restored()


def _operations(built: BuiltBackbone) -> list[keras.Operation]:
    """Returns all that a graph can be built on: the layers, whole models among them."""
    found: dict[int, keras.Operation] = {}
    for layer in iter_layers(built.model, *built.preprocess):
        for operation in (layer, *getattr(layer, "operations", ())):
            found[id(operation)] = operation
    return list(found.values())


def _has_random_state(built: BuiltBackbone) -> bool:
    return len(built.model.variables) > len(built.model.weights)


def _require_enough(splits: Splits, folds: int) -> None:
    counts = np.bincount(splits.train.labels)
    names = splits.info.class_names
    if splits.train.occurrences is not None:
        names = [f"group {number}" for number in range(len(counts))]
    small = [f"{name!r} ({count})" for name, count in zip(names, counts) if 0 < count < folds]
    if small:
        raise DataError(
            f"Each class needs at least {folds} training and validation examples for {folds} "
            f"folds. Too small: {', '.join(small)}. Use fewer folds, or add examples."
        )
    groups = splits.train.groups
    if groups is not None and len(set(groups)) < folds:
        raise DataError(
            f"There must be at least {folds} groups of training and validation examples for "
            f"{folds} folds, none of which is in two of them. Received: {len(set(groups))}. "
            "Use fewer folds, or add examples."
        )


def _info_of_fold(
    splits: Splits, parts: Mapping[str, np.ndarray], number: int, folds: int
) -> DataInfo:
    info = splits.info
    counts = {
        name: splits.train.class_counts(info.num_classes, each) for name, each in parts.items()
    }
    how = "stratified" + (" by class" if splits.train.occurrences is None else "")
    if splits.train.groups is not None:
        how = "in whole groups"
    origin = f"created here: fold {number} of {folds}, {how}"
    return dataclasses.replace(
        info,
        sizes={**info.sizes, **{name: len(each) for name, each in parts.items()}},
        counts={**info.counts, **counts},
        origin={**info.origin, **dict.fromkeys(parts, origin)},
    )
