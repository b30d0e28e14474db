"""Divide a backbone into ordered blocks, and split it in two at the boundary of a block.

A boundary is a tensor that every path from the input to the output passes through. No other
computed tensor crosses it, so everything below can be computed once and cached. If the model has
several inputs, those that are still read above the boundary, such as a padding mask, pass through:

    input ----> [ stem ] -> [ block1 ] -> boundary -> [ block2 ] -> output
    mask  --+---------------------------> mask -----------^
            (passthrough)
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
      name: The network's own name for the block, e.g. "conv5_block3"; "stem" for the layers before
        the first named block.
      layers: Its layers, in the order in which they run.
      output: The tensor at its upper end that all paths pass through.
      passthrough: The inputs of the model that are also read above the block.
    """

    name: str
    layers: tuple[keras.Layer, ...]
    output: keras.KerasTensor
    passthrough: tuple[keras.KerasTensor, ...] = ()

    @property
    def boundary(self) -> Any:
        """`output`, or {"boundary": output, input name: input, ...} if inputs pass through."""
        if not self.passthrough:
            return self.output
        return {BOUNDARY: self.output, **{tensor.name: tensor for tensor in self.passthrough}}


@dataclass(frozen=True)
class BuiltBackbone:
    """A backbone with its weights, its input scaling and its blocks.

    Attributes:
      model: A Functional model, from scaled images, float [batch, height, width, 3], to a feature
        map, float [batch, rows, columns, channels]; or from a dict of token tensors to one tensor.
      blocks: The blocks from input to output. Every layer of `model` except input layers is in
        exactly one of them.
      preprocess: Layers that scale RGB images in 0..255, float [batch, height, width, 3], to the
        range that `model` was trained on. Empty if the model scales its input itself.
      hub_model: The KerasHub model whose layers `model` consists of, for text backbones.
      notes: Sentences for the user on how the preset was loaded, such as a head that was dropped.

    Example:

    ```python
    backbone = build_backbone(Backbone(preset="keras:resnet50"))
    [block.name for block in backbone.top_blocks(2)]  # ["conv5_block2", "conv5_block3"]
    prefix, suffix = backbone.split(2)
    ```
    """

    model: keras.Model
    blocks: tuple[Block, ...]
    preprocess: tuple[keras.Layer, ...]
    hub_model: keras.Model | None = None
    notes: tuple[str, ...] = ()

    def top_blocks(self, unfreeze: int | Literal["all"]) -> tuple[Block, ...]:
        """Return the top `unfreeze` blocks, from input to output."""
        count = len(self.blocks)
        return self.blocks if unfreeze == "all" else self.blocks[count - unfreeze :]

    def unfreeze_fault(self, unfreeze: int | Literal["all"], field: str = "unfreeze") -> str | None:
        """Return a sentence if the backbone has fewer than `unfreeze` blocks, else None.

        Args:
          unfreeze: A number of blocks, or "all".
          field: The name of the value in the message.
        """
        count = len(self.blocks)
        if unfreeze == "all" or 0 <= unfreeze <= count:
            return None
        names = ", ".join(block.name for block in self.blocks)
        option = f" Set it with --set={field}=all, or to a number." if "." in field else ""
        return (
            f"`{field}` must be 'all' or from 0 to {count}, the number of blocks of "
            f"{self.model.name}. Received: {unfreeze!r}. "
            f"Its blocks, from input to output: {names}.{option}"
        )

    def split(
        self, unfreeze: int | Literal["all"]
    ) -> tuple[keras.Model | None, keras.Model | None]:
        """Split `model` below its top `unfreeze` blocks; both parts share its layers.

        Args:
          unfreeze: The number of blocks above the split, or "all".

        Returns:
          The prefix, whose output is `Block.boundary` (None if all blocks are above the split), and
          the suffix, whose input it is (None if `unfreeze` is 0). If the boundary is a dict, the
          suffix takes a list of its tensors in the order of their names. The suffix of the prefix
          computes the same as `model`.

        Raises:
          BackboneError: If the backbone has fewer blocks.
        """
        fault = self.unfreeze_fault(unfreeze)
        if fault is not None:
            raise BackboneError(fault)
        count = len(self.blocks)
        above = count if unfreeze == "all" else unfreeze
        if above == count:
            return None, self.model
        if above == 0:
            return self.model, None
        top = self.blocks[count - above - 1]
        below = f"{self.model.name}_to_{top.name}"
        beyond = f"{self.model.name}_after_{top.name}"
        prefix = keras.Model(self.model.input, top.boundary, name=below)
        # As a list, because in a dict Keras requires the tensors' own names as keys.
        inputs = keras.tree.flatten(top.boundary) if top.passthrough else top.output
        # Keras reassigns the model's own inputs among these to the new graph, and could then no
        # longer save `model`.
        histories = [(tensor, tensor._keras_history) for tensor in self.model.inputs]
        suffix = keras.Model(inputs, self.model.output, name=beyond)
        for tensor, history in histories:
            tensor._keras_history = history
        return prefix, suffix


def find_blocks(model: keras.Model, names: re.Pattern[str], stem: str = STEM) -> tuple[Block, ...]:
    r"""Return the blocks of a Functional model, from input to output.

    A block ends at the first boundary at or after the last layer with its name. Layers before the
    first block form the stem; layers after the last block, such as a final normalization, belong
    to it.

    Args:
      model: A Functional model with one output tensor.
      names: A pattern that is matched from the start of each layer's name. Its groups, joined by
        "_", are the name of the layer's block; a group named "stage" that matches "2" becomes
        "stage2". Layers that do not match belong to the block around them.
      stem: The name of the block before the first.

    Raises:
      BackboneError: If no layer matches, if blocks overlap so that no boundary lies between them,
        or if a layer is used more than once.

    Example:

    ```python
    vgg16 = keras.applications.VGG16(include_top=False, weights=None)
    blocks = find_blocks(vgg16, re.compile(r"(block\d)_"))
    [block.name for block in blocks]  # ["block1", "block2", "block3", "block4", "block5"]
    ```
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
            f"The blocks of {model.name} cannot be identified, so none could be unfrozen. "
            f"Expected layers with names like {names.pattern!r}. "
            f"Received: {_shortened([operation.name for operation in operations])}."
        )
    ends: dict[int, str] = {}
    below = [position for position in boundaries if position < min(first.values())]
    if below:
        ends[max(below)] = stem
    for name in sorted(last, key=last.__getitem__):
        # If the layers of two blocks interleave, their boundary is the same or inside the other.
        end = min(position for position in boundaries if position >= last[name])
        if end in ends or any(first[other] <= end < last[other] for other in last):
            raise BackboneError(
                f"Block {name!r} of {model.name} has no clean boundary: layers of another block "
                "are connected around its end, so the backbone cannot be cut there. "
                "Choose another backbone."
            )
        ends[end] = name
    ends[len(operations) - 1] = ends.pop(max(ends))
    return blocks_between(model, operations, ends, boundaries)


def _block_name(match: re.Match[str]) -> str:
    if match.groupdict():
        return "_".join(f"{group}{text}" for group, text in match.groupdict().items())
    return "_".join(match.groups())


def find_boundaries(
    model: keras.Model,
) -> tuple[list[keras.Operation], dict[int, tuple[keras.KerasTensor, ...]]]:
    """Return the operations in execution order, and those whose output is a boundary.

    The output of an operation is a boundary if it is the only live tensor after that operation,
    apart from inputs of a model with several: everything before leads to it and everything after
    depends on it, for any execution order. Keras can then build `keras.Model(output,
    model.output)`; trying that for each operation takes seconds, this liveness analysis
    milliseconds.

    Args:
      model: A Functional model with one output tensor.

    Returns:
      The operations, and {index of an operation: inputs that are also read above its output}.

    Raises:
      BackboneError: If the model has several outputs, or uses a layer more than once.
    """
    if len(model.outputs) != 1:
        raise BackboneError(
            "A backbone must have one output tensor, such as a feature map. "
            f"Received: {model.name} with {len(model.outputs)} outputs."
        )
    operations = [op for op in model.operations if not isinstance(op, keras.layers.InputLayer)]
    pending_reads = {id(model.outputs[0]): 1}
    for operation in operations:
        for tensor in _flat(operation.input):
            pending_reads[id(tensor)] = pending_reads.get(id(tensor), 0) + 1
    inputs = {id(tensor): tensor for tensor in model.inputs}
    # A single input, the image, does not pass through: if it is read again, there is no boundary.
    may_pass_through = set(inputs) if len(inputs) > 1 else set()
    live = set(inputs)
    boundaries: dict[int, tuple[keras.KerasTensor, ...]] = {}
    for position, operation in enumerate(operations):
        for tensor in _flat(operation.input):
            if id(tensor) not in live:
                raise _used_twice(model)
            pending_reads[id(tensor)] -= 1
            if not pending_reads[id(tensor)]:
                live.remove(id(tensor))
        outputs = _flat(operation.output)
        live.update(id(tensor) for tensor in outputs if id(tensor) in pending_reads)
        if len(outputs) == 1 and live - may_pass_through == {id(outputs[0])}:
            boundaries[position] = tuple(tensor for key, tensor in inputs.items() if key in live)
    if live != {id(model.outputs[0])}:
        raise _used_twice(model)
    return operations, boundaries


def _used_twice(model: keras.Model) -> BackboneError:
    # `Operation.input` and `.output` are those of the first use; other uses are not visible.
    return BackboneError(
        f"A layer of {model.name} is used more than once, so two blocks might share it, and "
        "neither could be frozen on its own. Choose another backbone."
    )


def _flat(tensors: object) -> Sequence[keras.KerasTensor]:
    return keras.tree.flatten(tensors)


def blocks_between(
    model: keras.Model,
    operations: Sequence[keras.Operation],
    ends: dict[int, str],
    boundaries: dict[int, tuple[keras.KerasTensor, ...]],
) -> tuple[Block, ...]:
    """Return a block per range of operations, after checking that every layer is in one.

    Args:
      model: A Functional model.
      operations: Its operations, from `find_boundaries`.
      ends: {index of the last operation of a block: its name}; the last operation is among them.
      boundaries: From `find_boundaries`.

    Raises:
      BackboneError: If a layer is in no block, or in two.
    """
    blocks = []
    start = 0
    for end in sorted(ends):
        members = operations[start : end + 1]
        layers = tuple(op for op in members if isinstance(op, keras.Layer))
        blocks.append(Block(ends[end], layers, members[-1].output, boundaries[end]))
        start = end + 1
    covered = sorted(id(layer) for block in blocks for layer in block.layers)
    inputs = keras.layers.InputLayer
    if covered != sorted(id(layer) for layer in model.layers if not isinstance(layer, inputs)):
        raise BackboneError(
            f"The blocks of {model.name} do not contain each of its layers exactly once, so it is "
            "undefined what a stage trains. Choose another backbone."
        )
    return tuple(blocks)


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown}, ... ({len(names)} layers)"
