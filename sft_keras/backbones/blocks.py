"""Cutting a backbone into ordered blocks, and cutting it in two at a block's boundary.

A boundary is a tensor that every path from the input to the output runs through. Nothing computed
crosses it on the side, so what lies below can be computed once and stored. Where a model has
several inputs, those that are still read above the boundary, such as a padding mask, travel along.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras

from sft_keras.core.errors import BackboneError

STEM = "stem"
BOUNDARY = "boundary"


@dataclass(frozen=True)
class Block:
    """Consecutive layers of a backbone that are frozen or trained together.

    Attributes:
      name: What the network itself calls the block, e.g. "conv5_block3"; "stem" for what comes
        before the first named block.
      layers: Its layers, in the order in which they run.
      output: The tensor all paths run through at the block's upper end.
      carried: The model's inputs that are read above it too.
    """

    name: str
    layers: tuple[keras.Layer, ...]
    output: keras.KerasTensor
    carried: tuple[keras.KerasTensor, ...] = ()

    @property
    def boundary(self) -> Any:
        """`output`, or where inputs are carried {"boundary": output, name of an input: input}."""
        if not self.carried:
            return self.output
        return {BOUNDARY: self.output, **{tensor.name: tensor for tensor in self.carried}}


@dataclass(frozen=True)
class BuiltBackbone:
    """A backbone with its weights, its input scaling and its blocks.

    Attributes:
      model: Functional; from scaled images, float [batch, height, width, 3], to one feature map,
        float [batch, rows, columns, channels]; or from a dict of token tensors to one tensor.
      blocks: From input to output; every layer of `model`, the input layer aside, is in exactly
        one of them.
      preprocess: Layers to apply in turn to RGB images, 0 to 255, float [batch, height, width,
        3]; they give what `model` was trained on. Empty where the model scales by itself.
      origin: The network of KerasHub whose layers `model` is made of, where that is kept.
    """

    model: keras.Model
    blocks: tuple[Block, ...]
    preprocess: tuple[keras.Layer, ...]
    origin: keras.Model | None = None

    def top(self, unfreeze: int | Literal["all"]) -> tuple[Block, ...]:
        """Returns the top `unfreeze` blocks, from input to output."""
        count = len(self.blocks)
        return self.blocks if unfreeze == "all" else self.blocks[count - unfreeze :]

    def cut(self, unfreeze: int | Literal["all"]) -> tuple[keras.Model | None, keras.Model | None]:
        """Cuts `model` below its top `unfreeze` blocks; both parts share its layers.

        Args:
          unfreeze: Blocks above the cut, counted from the top, or "all".

        Returns:
          The part below the cut (None if that is empty: all blocks are above), which gives
          `Block.boundary`, and the part above (None if `unfreeze` is 0), which takes it; as a
          list in the order of the names if it is a dict. One after the other computes what
          `model` does.

        Raises:
          BackboneError: If there are not that many blocks.
        """
        count = len(self.blocks)
        above = count if unfreeze == "all" else unfreeze
        if not 0 <= above <= count:
            names = ", ".join(block.name for block in self.blocks)
            raise BackboneError(
                f"`unfreeze` must be 'all' or from 0 to {count}, the number of blocks of "
                f"{self.model.name}. Received: {unfreeze!r}. "
                f"Its blocks, from input to output: {names}."
            )
        if above == count:
            return None, self.model
        if above == 0:
            return self.model, None
        top = self.blocks[count - above - 1]
        below = f"{self.model.name}_to_{top.name}"
        beyond = f"{self.model.name}_after_{top.name}"
        prefix = keras.Model(self.model.input, top.boundary, name=below)
        # As a list, because Keras wants the keys of a dict to be the tensors' own names.
        inputs = keras.tree.flatten(top.boundary) if top.carried else top.output
        # Where the model's own inputs are among these, Keras says of them that they belong to the
        # new graph, and could then no longer save `model`.
        places = [(tensor, tensor._keras_history) for tensor in self.model.inputs]
        suffix = keras.Model(inputs, self.model.output, name=beyond)
        for tensor, place in places:
            tensor._keras_history = place
        return prefix, suffix


def find_blocks(model: keras.Model, names: re.Pattern[str], stem: str = STEM) -> tuple[Block, ...]:
    """Returns the blocks of a Functional model, from its input to its output.

    A block ends at the first boundary at or after the last layer that carries its name. What
    comes before the first block is the stem; what comes after the last one, such as a closing
    normalisation, belongs to the last.

    Args:
      model: Functional, with one output tensor.
      names: Matched from the start of each layer's name; its groups, joined, are the name of the
        block the layer belongs to, a group named "stage" that holds "2" giving "stage2". Layers
        it does not match belong to the block around them.
      stem: What the block before the first is called.

    Raises:
      BackboneError: If no layer has such a name, if blocks overlap so that no boundary lies
        between them, or if a layer is used more than once.
    """
    operations, boundaries = find_boundaries(model)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for position, operation in enumerate(operations):
        match = names.match(operation.name)
        if match:
            name = _block_name(match)
            first.setdefault(name, position)
            last[name] = position
    if not first:
        raise BackboneError(
            f"The blocks of {model.name} cannot be told apart, so nothing could be unfrozen. "
            f"Expected layers with names like {names.pattern!r}. "
            f"Received: {_shortened([operation.name for operation in operations])}."
        )
    ends: dict[int, str] = {}
    below = [position for position in boundaries if position < min(first.values())]
    if below:
        ends[max(below)] = stem
    for name in sorted(last, key=last.__getitem__):
        # Blocks whose layers interleave find the same boundary, or one inside another block.
        end = min(position for position in boundaries if position >= last[name])
        if end in ends or any(first[other] <= end < last[other] for other in last):
            raise BackboneError(
                f"Block {name!r} of {model.name} has no clean boundary: layers of another block "
                "are connected around its end, so the backbone cannot be cut there. "
                "Choose another backbone."
            )
        ends[end] = name
    ends[len(operations) - 1] = ends.pop(max(ends))
    return _slices(model, operations, ends, boundaries)


def _block_name(match: re.Match[str]) -> str:
    if match.groupdict():
        return "_".join(f"{group}{text}" for group, text in match.groupdict().items())
    return "_".join(match.groups())


def find_boundaries(
    model: keras.Model,
) -> tuple[list[keras.Operation], dict[int, tuple[keras.KerasTensor, ...]]]:
    """Returns the operations in the order they run, and the positions that end at a boundary.

    An operation's output is a boundary if, once it is there, it is the only tensor still waited
    for, inputs of a model of several aside: everything before leads to it and everything after
    comes from it, whatever order the operations run in. Keras can then build `keras.Model(output,
    model.output)`; trying that at each operation takes seconds, this walk milliseconds. With each
    position come the inputs that are read above it.

    Raises:
      BackboneError: If the model has several outputs, or uses a layer more than once.
    """
    if len(model.outputs) != 1:
        raise BackboneError(
            "A backbone must have one output tensor, such as a feature map. "
            f"Received: {model.name} with {len(model.outputs)} outputs."
        )
    operations = [op for op in model.operations if not isinstance(op, keras.layers.InputLayer)]
    waiting = {id(model.outputs[0]): 1}
    for operation in operations:
        for tensor in _flat(operation.input):
            waiting[id(tensor)] = waiting.get(id(tensor), 0) + 1
    inputs = {id(tensor): tensor for tensor in model.inputs}
    # The image itself is not carried: a network that reads it again has no boundary before.
    may_travel = set(inputs) if len(inputs) > 1 else set()
    live = set(inputs)
    boundaries: dict[int, tuple[keras.KerasTensor, ...]] = {}
    for position, operation in enumerate(operations):
        for tensor in _flat(operation.input):
            if id(tensor) not in live:
                raise _used_twice(model)
            waiting[id(tensor)] -= 1
            if not waiting[id(tensor)]:
                live.remove(id(tensor))
        outputs = _flat(operation.output)
        live.update(id(tensor) for tensor in outputs if id(tensor) in waiting)
        if len(outputs) == 1 and live - may_travel == {id(outputs[0])}:
            boundaries[position] = tuple(inputs[each] for each in inputs if each in live)
    if live != {id(model.outputs[0])}:
        raise _used_twice(model)
    return operations, boundaries


def _used_twice(model: keras.Model) -> BackboneError:
    # `Operation.input` and `.output` are those of the first use; the others are missing then.
    return BackboneError(
        f"A layer of {model.name} is used more than once, so blocks would share it and neither "
        "could be frozen alone. Choose another backbone."
    )


def _flat(tensors: object) -> Sequence[keras.KerasTensor]:
    return keras.tree.flatten(tensors)


def _slices(
    model: keras.Model,
    operations: Sequence[keras.Operation],
    ends: dict[int, str],
    boundaries: dict[int, tuple[keras.KerasTensor, ...]],
) -> tuple[Block, ...]:
    """Returns one block for each stretch of operations, checked to hold every layer once."""
    blocks = []
    start = 0
    for end in sorted(ends):
        stretch = operations[start : end + 1]
        layers = tuple(op for op in stretch if isinstance(op, keras.Layer))
        blocks.append(Block(ends[end], layers, stretch[-1].output, boundaries[end]))
        start = end + 1
    covered = sorted(id(layer) for block in blocks for layer in block.layers)
    inputs = keras.layers.InputLayer
    if covered != sorted(id(layer) for layer in model.layers if not isinstance(layer, inputs)):
        raise BackboneError(
            f"The blocks of {model.name} do not hold each of its layers exactly once, so a stage "
            "could not say what it trains. Choose another backbone."
        )
    return tuple(blocks)


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown}, ... ({len(names)} layers)"
