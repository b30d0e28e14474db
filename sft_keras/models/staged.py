"""The staged model: a backbone with a head, split at the freeze boundary for training.

The boundary of a stage lies below its top `unfreeze` blocks. What lies below is the frozen prefix,
what lies above is the trainable suffix with the head:

                   frozen prefix               trainable suffix         head
    raw inputs -> [scaling, blocks] -> boundary -> [blocks] -> features -> [head] -> logits

    stage_model     raw inputs -> logits     the prefix computed in every step
    suffix_model    boundary   -> logits     trained on cached features
    prefix_model    raw inputs -> boundaries computes the features to cache
    model           raw inputs -> outputs    saved and served

For images, raw inputs are float32 [batch, height, width, 3] in 0..255; for texts, a dict of int32
[batch, tokens]. The boundary is one tensor, e.g. float [batch, rows, columns, channels], or a dict
of it and the inputs that are still read above it, e.g. a padding mask. All these models share their
layers, so training one of them trains all.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import keras

from sft_keras.backbones.blocks import BOUNDARY, Block, BuiltBackbone
from sft_keras.backbones.layers import iter_layers
from sft_keras.recipe.stage import Stage


class FrozenPrefix(keras.Layer):
    """Run frozen blocks in inference mode, also while the model around them is training.

    `fit` passes `training=True` through a Functional model to every layer that takes the argument,
    even if the layer was called with `training=False`: BatchNormalization would update its
    statistics and dropout would be active. `call` takes no such argument, so none is passed on.

    Args:
      prefix: The frozen blocks, a Functional model.
      **kwargs: Passed on to `keras.Layer`.

    Example:

    ```python
    prefix, suffix = backbone.split(2)
    features = FrozenPrefix(prefix, name="frozen_prefix")(inputs)
    ```
    """

    def __init__(self, prefix: keras.Model, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.prefix = prefix

    def call(self, inputs: Any) -> Any:
        """Return the outputs of the prefix without gradients."""
        outputs = self.prefix(inputs, training=False)
        return keras.tree.map_structure(keras.ops.stop_gradient, outputs)

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return shape and dtype of the prefix' outputs."""
        return self.prefix.compute_output_spec(inputs)


@dataclasses.dataclass(frozen=True)
class StagedModel:
    """A backbone, a new head, and the models made of them; all share their layers.

    Attributes:
      backbone: The backbone with its blocks and input scaling.
      head: From the backbone's output to logits.
      activation: Keras activation from logits to the outputs of the whole model, e.g. "softmax".

    Example:

    ```python
    staged = StagedModel(build_backbone(recipe.backbone), head, activation="softmax")
    model = staged.stage_model(unfreeze=2)  # compile and fit it
    staged.model.save("model.keras")
    ```
    """

    backbone: BuiltBackbone
    head: keras.Model
    activation: str

    @functools.cached_property
    def head_layers(self) -> tuple[keras.Layer, ...]:
        """The layers of the head, nested ones included, except those of the backbone.

        A head may reuse a layer of the backbone, such as tied embeddings. That layer is trained or
        frozen with its block.
        """
        shared = set(iter_layers(*self.backbone.model.layers))
        return tuple(layer for layer in iter_layers(*self.head.layers) if layer not in shared)

    @functools.cached_property
    def head_variables(self) -> tuple[keras.Variable, ...]:
        """The variables of the head, except those of the backbone."""
        shared = {id(variable) for variable in self.backbone.model.variables}
        return tuple(variable for variable in self.head.variables if id(variable) not in shared)

    @functools.cached_property
    def model(self) -> keras.Model:
        """The whole model, from raw inputs to outputs; it is saved and served."""
        if len(self.head_variables) < len(self.head.variables):
            return self._flat_model()
        return self.with_temperature(1.0)

    def with_temperature(self, temperature: float) -> keras.Model:
        """Return the whole model with its logits divided by a temperature (calibration).

        Args:
          temperature: Above 0; 1 leaves the model as it is. The head must share no layers with the
            backbone.
        """
        inputs, x = self._scaled_inputs()
        logits = self.head(self.backbone.model(x))
        if temperature != 1.0:
            rescaling = keras.layers.Rescaling(1 / temperature, dtype="float32", name="temperature")
            logits = rescaling(logits)
        return keras.Model(inputs, self._activate(logits), name="model")

    def stage_model(self, unfreeze: int | Literal["all"]) -> keras.Model:
        """Return the model to train with the top `unfreeze` blocks, from raw inputs to logits.

        The prefix below runs in inference mode; everything above follows the training flag.
        """
        prefix, suffix = self.backbone.split(unfreeze)
        inputs, x = self._scaled_inputs()
        if prefix is not None:
            x = FrozenPrefix(prefix, name="frozen_prefix")(x)
        return keras.Model(inputs, self._logits(suffix, x), name="stage_model")

    def suffix_model(self, unfreeze: int | Literal["all"]) -> keras.Model:
        """Return the part of `stage_model` above the boundary, from cached features to logits.

        Raises:
          ValueError: If all blocks train: there is no boundary below the lowest.
        """
        if unfreeze == "all":
            raise ValueError("A stage that trains all blocks has no boundary to start from.")
        _, suffix = self.backbone.split(unfreeze)
        block = self.backbone.blocks[len(self.backbone.blocks) - unfreeze - 1]
        if block.passthrough:
            inputs = {name: _input_like(tensor, name) for name, tensor in block.boundary.items()}
        else:
            inputs = _input_like(block.output, BOUNDARY)
        return keras.Model(inputs, self._logits(suffix, inputs), name="suffix_model")

    def inference_model(self, unfreeze: int | Literal["all"], from_boundary: bool) -> keras.Model:
        """Return `suffix_model` or `stage_model` with the outputs of the whole model, not logits.

        Args:
          unfreeze: The number of blocks above the boundary.
          from_boundary: Whether its inputs are cached features.
        """
        logits_model = self.suffix_model(unfreeze) if from_boundary else self.stage_model(unfreeze)
        outputs = self._activate(logits_model.output)
        return keras.Model(logits_model.input, outputs, name="answering")

    def prefix_model(self, counts: Sequence[int]) -> keras.Model:
        """Return the model that computes the features to cache.

        Args:
          counts: For every output, the number of blocks below its boundary, from 1.

        Returns:
          A model from raw inputs to a list of boundaries, as `Block.boundary`.
        """
        inputs, x = self._scaled_inputs()
        outputs = [self.backbone.blocks[count - 1].boundary for count in counts]
        graph = keras.Model(self.backbone.model.input, outputs)
        return keras.Model(inputs, graph(x), name="prefix_with_outputs")

    def _flat_model(self) -> keras.Model:
        """Return the whole model as one graph of the layers of backbone and head.

        A layer that both share would be saved, and loaded, as two if they were nested models.
        """
        x = self.backbone.model.output
        for layer in self.head.layers:
            if not isinstance(layer, keras.layers.InputLayer):
                x = layer(x)
        return keras.Model(self.backbone.model.input, self._activate(x), name="model")

    def _activate(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.Activation(self.activation, dtype="float32", name="answers")(logits)

    def _logits(self, suffix: keras.Model | None, x: Any) -> keras.KerasTensor:
        if suffix is None:
            return self.head(x)
        is_boundary = isinstance(x, dict) and not isinstance(suffix.input, dict)
        return self.head(suffix(keras.tree.flatten(x) if is_boundary else x))

    def _scaled_inputs(self) -> tuple[Any, Any]:
        """Return new raw inputs, and the backbone's inputs computed from them."""
        expected = self.backbone.model.input
        if isinstance(expected, dict):
            inputs = {name: _input_like(tensor, name) for name, tensor in expected.items()}
            return inputs, inputs
        inputs = keras.Input(expected.shape[1:], name="images", dtype="float32")
        x = inputs
        for layer in self.backbone.preprocess:
            x = layer(x)
        return inputs, x


def _input_like(tensor: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.Input(tensor.shape[1:], name=name, dtype=tensor.dtype)


def unfrozen_blocks(staged: StagedModel, stage: Stage) -> tuple[Block, ...]:
    """Return the blocks that train in a stage, from input to output."""
    return staged.backbone.top_blocks(stage.unfreeze)
