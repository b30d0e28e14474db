"""One boundary of a model: what it gives, how that is stored, and in which collection."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from sft_keras.cache.keys import collection_key
from sft_keras.cache.rows import Field, row_size
from sft_keras.cache.stored_features import field_of
from sft_keras.data.features import Structure
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.storage import Store


@dataclasses.dataclass(frozen=True)
class Boundary:
    """A boundary and the collection of its rows.

    Attributes:
      below: Blocks below it.
      key: The collection's name.
      like: Shape (without the batch) and dtype of each tensor that the suffix takes; None for an
        axis of tokens.
      stored: The same of each tensor of a row as it is stored, in the order of `tf.nest.flatten`.
      about: For people: what is computed, with what.
    """

    below: int
    key: str
    like: Structure
    stored: tuple[tf.TensorSpec, ...]
    about: Mapping[str, Any]

    @property
    def fields(self) -> tuple[Field, ...]:
        """What a row is on disk."""
        return tuple(map(field_of, self.stored))

    @property
    def row_size(self) -> int:
        """Bytes a row."""
        return row_size(self.fields)

    def with_targets(self, size: int) -> Boundary:
        """Returns the boundary for augmented views, whose rows hold their y too, float32 [size]."""
        target = tf.TensorSpec([size], tf.float32)
        return dataclasses.replace(
            self,
            key=hashlib.sha256(f"{self.key} views {size}".encode()).hexdigest(),
            like={"input": self.like, "target": target},
            stored=(*self.stored, target),
            about={**self.about, "rows": "augmented views"},
        )


def boundary_of(staged: StagedModel, below: int, store: Store, inputs: Structure) -> Boundary:
    """Returns the boundary above the first `below` blocks, with the weights as they are now.

    Args:
      staged: The model.
      below: From 1 to the number of blocks.
      store: The recipe's section.
      inputs: A batch of what the model reads.
    """
    prefix, _ = staged.backbone.split(len(staged.backbone.blocks) - below)
    block = staged.backbone.blocks[below - 1]
    like = whole = keras.tree.map_structure(_spec, block.boundary)
    if any(None in spec.shape for spec in tf.nest.flatten(like)):
        # Of texts, rows are stored as long as the longest may be.
        like_inputs = keras.tree.map_structure(
            lambda tensor: keras.KerasTensor(tensor.shape, tensor.dtype.name), inputs
        )
        whole = keras.tree.map_structure(_spec, prefix.compute_output_spec(like_inputs))
    stored = tuple(_stored(spec, store) for spec in tf.nest.flatten(whole))
    # Without passthrough inputs: Keras cannot describe a model that returns one of its inputs.
    graph = keras.Model(staged.backbone.model.input, block.output)
    settings = {
        "carried": [tensor.name for tensor in block.passthrough],
        "precision": store.precision,
        "batch_size": store.batch_size,
        "stored": [[spec.dtype.name, list(spec.shape)] for spec in stored],
    }
    return Boundary(
        below=below,
        key=collection_key(graph, staged.backbone.preprocess, settings),
        like=like,
        stored=stored,
        about={"backbone": staged.backbone.model.name, "boundary": block.name, **settings},
    )


def _spec(tensor: keras.KerasTensor) -> tf.TensorSpec:
    return tf.TensorSpec(tensor.shape[1:], tensor.dtype)


def _stored(given: tf.TensorSpec, store: Store) -> tf.TensorSpec:
    """Returns a tensor as it is stored: floats in the narrowest dtype that was asked for."""
    if not given.dtype.is_floating:
        return given
    asked = [given.dtype, tf.as_dtype(store.dtype)]
    if store.precision == "bfloat16":
        asked.append(tf.bfloat16)
    return tf.TensorSpec(given.shape, min(asked, key=lambda dtype: dtype.size))
