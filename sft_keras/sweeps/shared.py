"""What trials share: opened data, built backbones and cached features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

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
from sft_keras.tasks.base import build_task


@dataclasses.dataclass(frozen=True)
class TrialData:
    """The splits of one trial."""

    prepared: Mapping[str, Prepared]
    info: DataInfo


@dataclasses.dataclass(frozen=True)
class _BuiltOnce:
    """A backbone with a record of its initial state.

    Attributes:
      key: Everything that determines the backbone, except the seed.
      seed: The seed that it was built with; None if it does not depend on the seed.
      built: The backbone.
      values: Initial values of its variables.
      nodes: (operation, (inbound nodes, outbound nodes)) of its graph, with their initial numbers.
    """

    key: str
    seed: int | None
    built: BuiltBackbone
    values: list[np.ndarray]
    nodes: list[tuple[keras.Operation, tuple[int, int]]]

    @classmethod
    def of(cls, key: str, seed: int | None, built: BuiltBackbone) -> _BuiltOnce:
        """Record the state of a newly built backbone."""
        values = [np.array(variable.numpy()) for variable in built.model.variables]
        nodes = [
            (operation, (len(operation._inbound_nodes), len(operation._outbound_nodes)))
            for operation in _operations(built)
        ]
        return cls(key, seed, built, values, nodes)

    def restored(self) -> BuiltBackbone:
        """Return the backbone, reset to its initial state."""
        for variable, value in zip(self.built.model.variables, self.values, strict=True):
            variable.assign(value)
        # Layers refer to everything built on them, which would keep the models of all trials alive.
        for operation, (inbound, outbound) in self.nodes:
            del operation._inbound_nodes[inbound:]
            del operation._outbound_nodes[outbound:]
        return self.built


class TrialContext:
    """Opens data and builds backbones once, and returns them in their initial state.

    Attributes:
      memory: Cached features of all trials with the current data and backbone.
    """

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        """`progress` is called with (done, total) while examples are read."""
        self.memory = MemoryStore()
        self._progress = progress
        self._data: tuple[Hashable, Splits, dict[str, Prepared]] | None = None
        self._backbone: _BuiltOnce | None = None
        self._failures: dict[str, BackboneError] = {}

    def data(self, recipe: Recipe, split_seed: int, folds: int | None) -> Iterator[TrialData]:
        """Yield the data of a recipe, or of each of its folds.

        Args:
          recipe: The recipe whose data is read.
          split_seed: Seed of the splits that the source lacks, and of the folds.
          folds: Number of folds to divide training and validation examples into, stratified by
            class and keeping groups whole, so that each example is validated once. The test split
            stays the same. None for the splits as they are.

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
            build_task(recipe).preprocessor.fingerprint(),
            folds,
        )
        if self._data is None or self._data[0] != key:
            # Freed before the next is read, since both may not fit into memory.
            self._data = None
            self.memory.keep_only(())
            splits = build_task(recipe).open_data(split_seed)
            if folds is not None:
                splits = dataclasses.replace(
                    splits, train=concatenate(splits.train, splits.validation)
                )
                _require_enough(splits, folds)
            task = build_task(recipe, splits.info)
            self._data = (key, splits, task.preprocessor.preprocess(splits, self._progress))
        _, splits, prepared = self._data
        if folds is None:
            yield TrialData(prepared, splits.info)
            return
        labels, groups = splits.train.labels, splits.train.groups
        splitter_class = StratifiedKFold if groups is None else StratifiedGroupKFold
        splitter = splitter_class(folds, shuffle=True, random_state=split_seed)
        whole = prepared["train"]
        for number, (train, held) in enumerate(splitter.split(labels, labels, groups), 1):
            parts = {"train": train, "validation": held}
            chosen = {name: whole.subset(whole.rows_of(part)) for name, part in parts.items()}
            yield TrialData(
                {**chosen, "test": prepared["test"]}, _info_of_fold(splits, parts, number, folds)
            )

    def backbone(self, recipe: Recipe) -> BuiltBackbone:
        """Return the recipe's backbone with its initial weights.

        Backbones returned earlier must no longer be used.

        Raises:
          BackboneError: If it cannot be built.
        """
        key = repr((recipe.backbone, recipe.precision, build_task(recipe).backbone_fingerprint()))
        if key in self._failures:
            raise self._failures[key]  # not tried again, since a download may take long to fail
        held = self._backbone
        if held is None or held.key != key or held.seed not in (None, recipe.seed):
            is_random = recipe.backbone.weights is None
            if is_random or held is None or held.key != key:
                self.memory.keep_only(())
            held = self._backbone = None  # both may not fit into memory
            try:
                built = build_task(recipe).build_backbone()
            except BackboneError as error:
                self._failures[key] = error
                raise
            # Random states of dropout depend on the seed, even if the weights do not.
            depends_on_seed = is_random or _has_random_state(built)
            held = _BuiltOnce.of(key, recipe.seed if depends_on_seed else None, built)
            self._backbone = held
        return held.restored()


def _operations(built: BuiltBackbone) -> list[keras.Operation]:
    """Return everything that a graph can be built on: layers, nested models and operations."""
    operations: dict[int, keras.Operation] = {}
    for layer in iter_layers(built.model, *built.preprocess):
        for operation in (layer, *getattr(layer, "operations", ())):
            operations[id(operation)] = operation
    return list(operations.values())


def _has_random_state(built: BuiltBackbone) -> bool:
    return len(built.model.variables) > len(built.model.weights)


def _require_enough(splits: Splits, folds: int) -> None:
    counts = np.bincount(splits.train.labels)
    names: Sequence[str] = splits.info.class_names
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
        name: splits.train.class_counts(info.num_classes, part) for name, part in parts.items()
    }
    how = "stratified" + (" by class" if splits.train.occurrences is None else "")
    if splits.train.groups is not None:
        how = "in whole groups"
    origin = f"created here: fold {number} of {folds}, {how}"
    return dataclasses.replace(
        info,
        sizes={**info.sizes, **{name: len(part) for name, part in parts.items()}},
        counts={**info.counts, **counts},
        origin={**info.origin, **dict.fromkeys(parts, origin)},
    )
