"""A boundary of a model: the tensors above its frozen blocks, how they are stored, and where."""

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
      below: Number of blocks below the boundary.
      key: Key of the collection.
      like: Shape (without the batch) and dtype of each tensor that the trainable suffix receives;
        None for a token axis.
      stored: Shape (without the batch) and dtype of each tensor as stored, in the order of
        `tf.nest.flatten`.
      about: Human-readable description of what was computed, and how.
    """

    below: int
    key: str
    like: Structure
    stored: tuple[tf.TensorSpec, ...]
    about: Mapping[str, Any]

    @property
    def fields(self) -> tuple[Field, ...]:
        """Layout of a row on disk."""
        return tuple(map(field_of, self.stored))

    @property
    def row_size(self) -> int:
        """Bytes per row."""
        return row_size(self.fields)

    def with_targets(self, size: int) -> Boundary:
        """Return the boundary of augmented views, whose rows also store y, float32 [size]."""
        target = tf.TensorSpec([size], tf.float32)
        return dataclasses.replace(
            self,
            key=hashlib.sha256(f"{self.key} views {size}".encode()).hexdigest(),
            like={"input": self.like, "target": target},
            stored=(*self.stored, target),
            about={**self.about, "rows": "augmented views"},
        )


def boundary_of(staged: StagedModel, below: int, store: Store, inputs: Structure) -> Boundary:
    """Return the boundary above the first `below` blocks, keyed by the current weights.

    Args:
      staged: The model.
      below: Number of blocks below the boundary, from 1 to the number of blocks.
      store: The `store` section of the recipe.
      inputs: A batch of model inputs, padded to the maximum sequence length.
    """
    prefix, _ = staged.backbone.split(len(staged.backbone.blocks) - below)
    if prefix is None:
        raise ValueError(f"`below` must be 1 or more. Received: {below}.")
    block = staged.backbone.blocks[below - 1]
    like = full_size = keras.tree.map_structure(_spec, block.boundary)
    if any(None in spec.shape for spec in tf.nest.flatten(like)):
        # Text rows are stored at the maximum sequence length.
        like_inputs = keras.tree.map_structure(
            lambda tensor: keras.KerasTensor(tensor.shape, tensor.dtype.name), inputs
        )
        full_size = keras.tree.map_structure(_spec, prefix.compute_output_spec(like_inputs))
    stored = tuple(_stored(spec, store) for spec in tf.nest.flatten(full_size))
    # Without passthrough inputs: Keras cannot serialize a model that returns one of its inputs.
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


def _stored(spec: tf.TensorSpec, store: Store) -> tf.TensorSpec:
    """Return the stored form of a tensor: floats take the narrowest dtype that applies."""
    if not spec.dtype.is_floating:
        return spec
    dtypes = [spec.dtype, tf.as_dtype(store.dtype)]
    if store.precision == "bfloat16":
        dtypes.append(tf.bfloat16)
    return tf.TensorSpec(spec.shape, min(dtypes, key=lambda dtype: dtype.size))
