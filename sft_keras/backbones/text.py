"""The text backbones: encoders of KerasHub, from its presets, a preset folder or Hugging Face's."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import keras
from absl import logging

from sft_keras.backbones.blocks import Block, BuiltBackbone, find_blocks
from sft_keras.backbones.hub_presets import load_preset, read_config
from sft_keras.core.errors import BackboneError
from sft_keras.recipe.backbone import Backbone
from sft_keras.recipe.section import did_you_mean

EMBEDDINGS = "embeddings"
Output = Literal["mean", "first", "pooled", "tokens", "masked"]
"""What a backbone gives for a text: the mean over its tokens, what stands at the first of them,
that after the layer which was trained along with it, what stands at each, or at some of them."""
MASK_POSITIONS = "mask_positions"

_LAYERS = r"(transformer_layer_\d+)$"
# Class in keras_hub.models -> names of the layers of a block; None where layers share weights, or
# hand each other more than one tensor, so that they are frozen together.
TEXT_FAMILIES: dict[str, str | None] = {
    "AlbertBackbone": None,
    "BertBackbone": _LAYERS,
    "DebertaV3Backbone": None,
    "DistilBertBackbone": _LAYERS,
    "ElectraBackbone": _LAYERS,
    "RobertaBackbone": _LAYERS,
    "XLMRobertaBackbone": _LAYERS,
}
_LETTERS = string.ascii_lowercase + string.digits + string.punctuation
_DECIDED = ("name", "dtype", "trainable")
# A random network of this size tries a recipe in seconds.
_TINY = {
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "max_sequence_length": 128,
}


def build_text_backbone(backbone: Backbone, output: Output, sequence_length: int) -> BuiltBackbone:
    """Builds an encoder that reads token tensors.

    Args:
      backbone: "hub:NAME" (a preset of KerasHub, or a preset folder), "hf:FOLDER" (a model of
        Hugging Face's) or "tiny:bert" (two layers, random weights). Its `arguments` may hold those
        of the KerasHub class, e.g. {"dropout": 0.2}.
      output: What it gives for a text.
      sequence_length: The most tokens that it will be given.

    Returns:
      The backbone: from {"token_ids", "padding_mask" and, for some, "segment_ids"}, int32
      [batch, tokens], to float [batch, hidden], or [batch, tokens, hidden] for "tokens". For
      "masked" it takes "mask_positions" too, int32 [batch, places], and gives float [batch, places,
      hidden]. Blocks are the embeddings and each transformer layer.

    Raises:
      BackboneError: If the preset is unknown, is not there and cannot be downloaded, is none of a
        text encoder, or was trained on shorter texts.
    """
    import keras_hub

    kind = backbone.preset.partition(":")[0]
    if kind == "tiny":
        sizes = {"vocabulary_size": len(tiny_vocabulary()), **_TINY, **backbone.arguments}
        model = keras_hub.models.BertBackbone(**sizes)
    else:
        preset = text_preset(backbone)
        if kind == "hf":
            _say_what_is_left_out(Path(preset), backbone)
        model = _load(preset, backbone)
    _require_known_family(model, backbone)
    if sequence_length > model.max_sequence_length:
        raise BackboneError(
            f"`task.sequence_length` must be at most {model.max_sequence_length} for "
            f"{backbone.preset}, which knows no places beyond. Received: {sequence_length}."
        )
    return _built(model, output, backbone)


def text_preset(backbone: Backbone) -> str:
    """Returns what KerasHub loads the backbone and its tokenizer from.

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
                f"{backbone.preset!r}, which is {folder.absolute()}. Expected: what "
                "`save_pretrained` of Hugging Face's (hf:) or `save_to_preset` of KerasHub's "
                "models (hub:) makes."
            )
        return str(folder)
    if "://" in name:
        return name
    known = [
        preset for family in TEXT_FAMILIES for preset in getattr(keras_hub.models, family).presets
    ]
    if name not in known:
        raise BackboneError(
            "`backbone.preset` names neither a folder nor a KerasHub preset of a text encoder. "
            f"Received: {backbone.preset!r}.{did_you_mean(name, known)}\n"
            f"See the `presets` of keras_hub.models: {', '.join(TEXT_FAMILIES)}."
        )
    return name


def _load(preset: str, backbone: Backbone) -> keras.Model:
    import keras_hub

    for key in _DECIDED:
        if key in backbone.arguments:
            raise BackboneError(
                f"`backbone.arguments` must not hold {key!r}: the package decides it. "
                f"Received: {dict(backbone.arguments)}."
            )
    return load_preset(keras_hub.models.Backbone, preset, backbone, **backbone.arguments)


def _require_known_family(model: keras.Model, backbone: Backbone) -> None:
    family = type(model).__name__
    if family not in TEXT_FAMILIES:
        raise BackboneError(
            f"{backbone.preset} is a {family}, which is no text encoder that is known here. "
            f"Expected one of: {', '.join(TEXT_FAMILIES)}."
        )


def _built(model: keras.Model, output: Output, backbone: Backbone) -> BuiltBackbone:
    # A plain Functional model of the same graph, as of images.
    inputs = dict(model.input)
    if output == "masked":
        inputs[MASK_POSITIONS] = keras.Input((None,), dtype="int32", name=MASK_POSITIONS)
    graph = keras.Model(inputs, _output_of(model, inputs, output, backbone), name=model.name)
    for layer in graph.layers:
        if type(layer).build is keras.layers.Layer.build:
            # As DeBERTa's relative embedding: with a shape to build from, a saved one would be
            # loaded as built without building the layer inside it, and fail.
            layer._build_shapes_dict = None
    pattern = TEXT_FAMILIES[type(model).__name__]
    if pattern is None:
        layers = [layer for layer in graph.layers if not isinstance(layer, keras.layers.InputLayer)]
        blocks = (Block("encoder", tuple(layers), graph.output),)
    else:
        blocks = find_blocks(graph, re.compile(pattern), stem=EMBEDDINGS)
    return BuiltBackbone(graph, blocks, (), origin=model)


def _output_of(
    model: keras.Model, inputs: Mapping[str, Any], output: Output, backbone: Backbone
) -> keras.KerasTensor:
    given: Any = model.output
    by_name: Mapping[str, Any] = given if isinstance(given, dict) else {"sequence_output": given}
    tokens = by_name["sequence_output"]
    if output == "tokens":
        return tokens
    if output == "masked":
        return AtPlaces(name="at_places")(tokens, inputs[MASK_POSITIONS])
    if output == "first":
        return tokens[:, 0, :]
    if output == "pooled":
        if "pooled_output" not in by_name:
            raise BackboneError(
                f"`task.pooling` is 'pooled', and {backbone.preset}, a {type(model).__name__}, "
                "has no pooled output. Take 'mean' or 'first'."
            )
        return by_name["pooled_output"]
    return MeanOverTokens(name="mean_over_tokens")(tokens, model.input["padding_mask"])


@keras.saving.register_keras_serializable("sft_keras")
class MeanOverTokens(keras.layers.Layer):
    """The mean of a sequence, padding left out.

    Call arguments: float [batch, tokens, hidden] and int [batch, tokens], 1 for a token and 0 for
    padding. Returns float [batch, hidden].
    """

    def call(self, sequence: Any, padding_mask: Any) -> Any:
        """Returns the mean."""
        # Not [:, :, None], which LiteRT has no operation for where both sizes are free.
        mask = keras.ops.expand_dims(keras.ops.cast(padding_mask, sequence.dtype), -1)
        count = keras.ops.maximum(keras.ops.sum(mask, axis=1), 1)
        return keras.ops.sum(sequence * mask, axis=1) / count


@keras.saving.register_keras_serializable("sft_keras")
class AtPlaces(keras.layers.Layer):
    """What stands at some places of a sequence.

    Call arguments: float [batch, tokens, hidden] and int [batch, places]. Returns float [batch,
    places, hidden].
    """

    def call(self, sequence: Any, places: Any) -> Any:
        """Returns what stands there."""
        return keras.ops.take_along_axis(sequence, places[:, :, None], axis=1)


def _say_what_is_left_out(folder: Path, backbone: Backbone) -> None:
    """Warns of a trained head in a Hugging Face folder: only what is below it is loaded."""
    config = read_config(folder / "config.json", backbone)
    heads = [name for name in config.get("architectures") or () if re.search(r"For[A-Z]", name)]
    if heads:
        logging.warning(
            "%s holds a trained %s. Its head is not loaded: a new one is trained.",
            backbone.preset,
            ", ".join(heads),
        )


def tiny_vocabulary() -> tuple[str, ...]:
    """Returns the pieces of "tiny:bert": special tokens, and each letter as a piece."""
    continued = (f"##{letter}" for letter in _LETTERS)
    return ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_LETTERS, *continued)
