"""A backbone with a head, seen whole for serving and cut at the freeze boundary for training."""

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
    """Runs frozen blocks in inference mode, whatever mode the model around it is in.

    `fit` passes `training=True` through a Functional model to every layer that takes the argument,
    even where the layer was called with `training=False`: BatchNormalization would update its
    statistics and dropout would be on. `call` takes no such argument, so there is none to pass.
    """

    def __init__(self, prefix: keras.Model, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.prefix = prefix

    def call(self, inputs: Any) -> Any:
        """Returns the prefix' output for `inputs`, cut off from gradients."""
        outputs = self.prefix(inputs, training=False)
        return keras.tree.map_structure(keras.ops.stop_gradient, outputs)

    def compute_output_spec(self, inputs: Any) -> Any:
        """Returns shape and dtype of the boundary."""
        return self.prefix.compute_output_spec(inputs)


@dataclasses.dataclass(frozen=True)
class StagedModel:
    """A backbone, a new head, and the models made of them. All share their layers.

    Attributes:
      backbone: The backbone with its blocks and the scaling of its input.
      head: From the backbone's output to logits.
      activation: From logits to what the whole model answers, e.g. "softmax".
    """

    backbone: BuiltBackbone
    head: keras.Model
    activation: str

    @functools.cached_property
    def head_layers(self) -> tuple[keras.Layer, ...]:
        """The layers of the head, with those inside them, that are not the backbone's too.

        A head may use a layer of the backbone, as one does that is tied to its embeddings: that
        layer is trained or frozen as its block is.
        """
        shared = set(iter_layers(*self.backbone.model.layers))
        return tuple(layer for layer in iter_layers(*self.head.layers) if layer not in shared)

    @functools.cached_property
    def head_variables(self) -> tuple[keras.Variable, ...]:
        """The variables of the head that are not the backbone's too."""
        shared = {id(variable) for variable in self.backbone.model.variables}
        return tuple(each for each in self.head.variables if id(each) not in shared)

    @functools.cached_property
    def model(self) -> keras.Model:
        """The whole model: raw features (0..255) to answers. This is what is saved and served."""
        if len(self.head_variables) < len(self.head.variables):
            return self._in_one_graph()
        return self.calibrated(1.0)

    def calibrated(self, temperature: float) -> keras.Model:
        """Returns the whole model with its logits divided by a temperature before the answers.

        Not for a head that shares layers with the backbone.
        """
        inputs, x = self._scaled_inputs()
        logits = self.head(self.backbone.model(x))
        if temperature != 1.0:
            divided = keras.layers.Rescaling(1 / temperature, dtype="float32", name="temperature")
            logits = divided(logits)
        return keras.Model(inputs, self._answers(logits), name="model")

    def for_stage(self, unfreeze: int | Literal["all"]) -> keras.Model:
        """Returns the model to train with the top `unfreeze` blocks free: raw features to logits.

        What lies below the boundary runs in inference mode; the rest follows the training flag.
        """
        prefix, suffix = self.backbone.cut(unfreeze)
        inputs, x = self._scaled_inputs()
        if prefix is not None:
            x = FrozenPrefix(prefix, name="frozen_prefix")(x)
        return keras.Model(inputs, self._above(suffix, x), name="stage_model")

    def from_boundary(self, unfreeze: int) -> keras.Model:
        """Returns the part of `for_stage` above the boundary: what the prefix gives to logits."""
        _, suffix = self.backbone.cut(unfreeze)
        top = self.backbone.blocks[len(self.backbone.blocks) - unfreeze - 1]
        if top.carried:
            inputs = {name: _input(name, each) for name, each in top.boundary.items()}
        else:
            inputs = _input(BOUNDARY, top.output)
        return keras.Model(inputs, self._above(suffix, inputs), name="suffix_model")

    def answering(self, unfreeze: int | Literal["all"], from_boundary: bool) -> keras.Model:
        """Returns `from_boundary` or `for_stage` with the whole model's answers for the logits."""
        below = self.from_boundary(unfreeze) if from_boundary else self.for_stage(unfreeze)
        return keras.Model(below.input, self._answers(below.output), name="answering")

    def prefix_with_outputs(self, blocks: Sequence[int]) -> keras.Model:
        """Returns the model from raw features to the boundaries above so many blocks, a list."""
        inputs, x = self._scaled_inputs()
        outputs = [self.backbone.blocks[count - 1].boundary for count in blocks]
        graph = keras.Model(self.backbone.model.input, outputs)
        return keras.Model(inputs, graph(x), name="prefix_with_outputs")

    def _in_one_graph(self) -> keras.Model:
        """Returns the whole model with the layers of both parts side by side, the head's in a row.

        A layer that is in two models inside of a third would be saved, and loaded, as two.
        """
        x = self.backbone.model.output
        for layer in self.head.layers:
            if not isinstance(layer, keras.layers.InputLayer):
                x = layer(x)
        return keras.Model(self.backbone.model.input, self._answers(x), name="model")

    def _answers(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.Activation(self.activation, dtype="float32", name="answers")(logits)

    def _above(self, suffix: keras.Model | None, x: Any) -> keras.KerasTensor:
        if suffix is None:
            return self.head(x)
        is_boundary = isinstance(x, dict) and not isinstance(suffix.input, dict)
        return self.head(suffix(keras.tree.flatten(x) if is_boundary else x))

    def _scaled_inputs(self) -> tuple[Any, Any]:
        taken = self.backbone.model.input
        if isinstance(taken, dict):
            inputs = {name: _input(name, each) for name, each in taken.items()}
            return inputs, inputs
        inputs = keras.Input(taken.shape[1:], name="images", dtype="float32")
        x = inputs
        for layer in self.backbone.preprocess:
            x = layer(x)
        return inputs, x


def _input(name: str, like: keras.KerasTensor) -> keras.KerasTensor:
    return keras.Input(like.shape[1:], name=name, dtype=like.dtype)


def unfrozen_blocks(staged: StagedModel, stage: Stage) -> tuple[Block, ...]:
    """Returns the blocks that train in a stage, from input to output."""
    return staged.backbone.top(stage.unfreeze)
