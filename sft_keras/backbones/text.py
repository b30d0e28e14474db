"""Text backbones: encoders of KerasHub, from its presets, preset folders or Hugging Face folders.

The backbone maps token tensors to one tensor, chosen by `Output`:

    "mean"    mean over the tokens that are not padding     float [batch, hidden]
    "first"   the first token, e.g. BERT's [CLS]            float [batch, hidden]
    "pooled"  the pretrained pooling layer over the first   float [batch, hidden]
    "tokens"  every token                                   float [batch, tokens, hidden]
    "masked"  the tokens at "mask_positions"                float [batch, positions, hidden]

The layers below are registered with Keras as "sft_keras>NAME". Saved models and the keys of cached
features contain these class names, so they must not change.
"""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import keras

from sft_keras.backbones.blocks import Block, BuiltBackbone, find_blocks
from sft_keras.backbones.hub_presets import load_preset, read_config
from sft_keras.core.errors import BackboneError
from sft_keras.recipe.backbone import Backbone
from sft_keras.recipe.section import did_you_mean

EMBEDDINGS = "embeddings"
Output = Literal["mean", "first", "pooled", "tokens", "masked"]
"""The output of a text backbone, see the module's docstring."""
MASK_POSITIONS = "mask_positions"

_LAYERS = r"(transformer_layer_\d+)$"
# Class in keras_hub.models -> pattern of the layer names of a block, see `find_blocks`. None if its
# layers share weights or pass on several tensors, so that they can only be frozen together.
TEXT_FAMILIES: dict[str, str | None] = {
    "AlbertBackbone": None,
    "BertBackbone": _LAYERS,
    "DebertaV3Backbone": None,
    "DistilBertBackbone": _LAYERS,
    "ElectraBackbone": _LAYERS,
    "RobertaBackbone": _LAYERS,
    "XLMRobertaBackbone": _LAYERS,
}
_CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation
_DECIDED = ("name", "dtype", "trainable")
# A random network small enough to try a recipe in seconds.
_TINY = {
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "max_sequence_length": 128,
}


def build_text_backbone(backbone: Backbone, output: Output, sequence_length: int) -> BuiltBackbone:
    """Build an encoder of token tensors.

    Args:
      backbone: The section of the recipe. Its preset is "hub:NAME" (a KerasHub preset or preset
        folder), "hf:FOLDER" (a Hugging Face model) or "tiny:bert" (two layers, random weights).
        Its `arguments` may contain those of the KerasHub class, e.g. {"dropout": 0.2}.
      output: The output, see the module's docstring.
      sequence_length: The maximum number of tokens of its inputs.

    Returns:
      The backbone. Its inputs are {"token_ids", "padding_mask" and, for some, "segment_ids"}, int32
      [batch, tokens] each, and for "masked" also "mask_positions", int32 [batch, positions]. Its
      blocks are the embeddings and every transformer layer.

    Raises:
      BackboneError: If the preset is unknown, cannot be downloaded, is no text encoder, or has
        fewer position embeddings than `sequence_length`.

    Example:

    ```python
    built = build_text_backbone(Backbone(preset="tiny:bert"), "mean", sequence_length=64)
    features = built.model(encoder.inputs(texts))  # [batch, 16]
    ```
    """
    import keras_hub

    kind = backbone.preset.partition(":")[0]
    notes: tuple[str, ...] = ()
    if kind == "tiny":
        sizes = {"vocabulary_size": len(tiny_vocabulary()), **_TINY, **backbone.arguments}
        model = keras_hub.models.BertBackbone(**sizes)
    else:
        preset = text_preset(backbone)
        notes = _notes_on_head(Path(preset).expanduser(), backbone)
        model = _load(preset, backbone)
    _require_known_family(model, backbone)
    if sequence_length > model.max_sequence_length:
        raise BackboneError(
            f"`task.sequence_length` must be at most {model.max_sequence_length} for "
            f"{backbone.preset}, which has no position embeddings beyond. "
            f"Received: {sequence_length}."
        )
    return dataclasses.replace(_to_built_backbone(model, output, backbone), notes=notes)


def text_preset(backbone: Backbone) -> str:
    """Return the name, address or folder that KerasHub loads the backbone and its tokenizer from.

    Raises:
      BackboneError: If it is neither a folder nor a preset of a text encoder.
    """
    import keras_hub

    kind, _, name = backbone.preset.partition(":")
    folder = Path(name).expanduser()
    if kind == "hf" or folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BackboneError(
                f"`backbone.preset` must name a folder with a config.json. Received: "
                f"{backbone.preset!r}, which is {folder.absolute()}. Expected: a folder from "
                "`save_pretrained` of Hugging Face (hf:) or `save_to_preset` of KerasHub (hub:)."
            )
        return str(folder)
    if "://" in name:
        return name
    known = [
        preset for family in TEXT_FAMILIES for preset in getattr(keras_hub.models, family).presets
    ]
    if name not in known:
        raise BackboneError(
            "`backbone.preset` must name a folder or a KerasHub preset of a text encoder. "
            f"Received: {backbone.preset!r}.{did_you_mean(name, known)}\n"
            f"See the `presets` of keras_hub.models: {', '.join(TEXT_FAMILIES)}."
        )
    return name


def _load(preset: str, backbone: Backbone) -> keras.Model:
    import keras_hub

    for key in _DECIDED:
        if key in backbone.arguments:
            raise BackboneError(
                f"`backbone.arguments` must not contain {key!r}: the package sets it. "
                f"Received: {dict(backbone.arguments)}."
            )
    return load_preset(keras_hub.models.Backbone, preset, backbone, **backbone.arguments)


def _require_known_family(model: keras.Model, backbone: Backbone) -> None:
    family = type(model).__name__
    if family not in TEXT_FAMILIES:
        raise BackboneError(
            f"{backbone.preset} is a {family}, which is no supported text encoder. "
            f"Expected one of: {', '.join(TEXT_FAMILIES)}."
        )


def _to_built_backbone(model: keras.Model, output: Output, backbone: Backbone) -> BuiltBackbone:
    # A plain Functional model of the same graph, as for images.
    inputs = dict(model.input)
    if output == "masked":
        inputs[MASK_POSITIONS] = keras.Input((None,), dtype="int32", name=MASK_POSITIONS)
    graph = keras.Model(inputs, _output_of(model, inputs, output, backbone), name=model.name)
    for layer in graph.layers:
        if type(layer).build is keras.layers.Layer.build:
            # E.g. DeBERTa's relative embedding. If it had a build shape, Keras would mark a loaded
            # one as built without building the layer inside it, and fail.
            layer._build_shapes_dict = None
    pattern = TEXT_FAMILIES[type(model).__name__]
    if pattern is None:
        layers = [layer for layer in graph.layers if not isinstance(layer, keras.layers.InputLayer)]
        blocks: tuple[Block, ...] = (Block("encoder", tuple(layers), graph.output),)
    else:
        blocks = find_blocks(graph, re.compile(pattern), stem=EMBEDDINGS)
    return BuiltBackbone(graph, blocks, (), hub_model=model)


def _output_of(
    model: keras.Model, inputs: Mapping[str, Any], output: Output, backbone: Backbone
) -> keras.KerasTensor:
    output_tensors: Any = model.output
    if not isinstance(output_tensors, dict):
        output_tensors = {"sequence_output": output_tensors}
    tokens = output_tensors["sequence_output"]
    if output == "tokens":
        return tokens
    if output == "masked":
        return AtPlaces(name="at_places")(tokens, inputs[MASK_POSITIONS])
    if output == "first":
        return tokens[:, 0, :]
    if output == "pooled":
        if "pooled_output" not in output_tensors:
            raise BackboneError(
                f"`task.pooling` is 'pooled', and {backbone.preset}, a {type(model).__name__}, "
                "has no pooled output. Use 'mean' or 'first'."
            )
        return output_tensors["pooled_output"]
    return MeanOverTokens(name="mean_over_tokens")(tokens, model.input["padding_mask"])


@keras.saving.register_keras_serializable("sft_keras")
class MeanOverTokens(keras.layers.Layer):
    """Mean over the tokens of a sequence, without padding."""

    def call(self, sequence: Any, padding_mask: Any) -> Any:
        """Return the mean of every sequence.

        Args:
          sequence: Float [batch, tokens, hidden].
          padding_mask: Int [batch, tokens], 1 for a token and 0 for padding.

        Returns:
          Float [batch, hidden].
        """
        # Not [:, :, None]: LiteRT has no operation for it if both sizes are dynamic.
        mask = keras.ops.expand_dims(keras.ops.cast(padding_mask, sequence.dtype), -1)
        count = keras.ops.maximum(keras.ops.sum(mask, axis=1), 1)
        return keras.ops.sum(sequence * mask, axis=1) / count


@keras.saving.register_keras_serializable("sft_keras")
class AtPlaces(keras.layers.Layer):
    """The tokens of a sequence at given positions."""

    def call(self, sequence: Any, positions: Any) -> Any:
        """Return the features at the positions.

        Args:
          sequence: Float [batch, tokens, hidden].
          positions: Int [batch, positions].

        Returns:
          Float [batch, positions, hidden].
        """
        return keras.ops.take_along_axis(sequence, positions[:, :, None], axis=1)


def _notes_on_head(folder: Path, backbone: Backbone) -> tuple[str, ...]:
    """Return a sentence if a preset folder has a trained head, which KerasHub drops silently.

    A folder of Hugging Face names its class in config.json, one of KerasHub in task.json.
    """
    if not (folder / "config.json").is_file():
        return ()  # the name or address of a preset
    architectures = read_config(folder / "config.json", backbone).get("architectures") or ()
    heads = [name for name in architectures if re.search(r"For[A-Z]", name)]
    if (folder / "task.json").is_file():
        heads.append(read_config(folder / "task.json", backbone).get("class_name", "task.json"))
    if not heads:
        return ()
    return (
        f"{backbone.preset} contains a trained {', '.join(heads)}. Its head is not loaded; a new "
        "one is trained.",
    )


def tiny_vocabulary() -> tuple[str, ...]:
    """Return the WordPiece vocabulary of "tiny:bert": special tokens and single characters."""
    continuations = (f"##{character}" for character in _CHARACTERS)
    return ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_CHARACTERS, *continuations)
