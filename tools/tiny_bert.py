"""Writes a tiny BERT with random weights as Hugging Face's `save_pretrained` would."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
_LAYERS, _HIDDEN, _INNER, _PLACES = 2, 32, 64, 128


def write_tiny_bert(folder: Path, texts: str) -> None:
    """Writes the model and its vocabulary, so that "hf:FOLDER" loads it.

    Args:
      folder: Where to write; made if it is not there.
      texts: Whose words are in the vocabulary; others are spelt.
    """
    words = sorted({word for word in re.findall("[a-z]+", texts.lower()) if len(word) > 1})
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    vocabulary = [*special, *_LETTERS, *(f"##{letter}" for letter in _LETTERS), *words]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": len(vocabulary),
        "hidden_size": _HIDDEN,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": _INNER,
        "hidden_dropout_prob": 0.1,
        "max_position_embeddings": _PLACES,
        "type_vocab_size": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    draw = np.random.default_rng(0)
    weights = {
        name: draw.normal(scale=shape[-1] ** -0.5, size=shape).astype(np.float32)
        for name, shape in _shapes(len(vocabulary)).items()
    }
    for name, values in weights.items():
        if name.endswith("LayerNorm.weight"):
            values[:] = 1.0
        elif name.endswith("bias"):
            values[:] = 0.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _shapes(words: int) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each tensor, by Hugging Face's names."""
    above = "embeddings"
    shapes: dict[str, tuple[int, ...]] = {
        f"{above}.word_embeddings.weight": (words, _HIDDEN),
        f"{above}.position_embeddings.weight": (_PLACES, _HIDDEN),
        f"{above}.token_type_embeddings.weight": (2, _HIDDEN),
        **_norm(above),
        **_dense("pooler.dense", _HIDDEN, _HIDDEN),
    }
    for number in range(_LAYERS):
        layer = f"encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= _dense(f"{layer}.attention.{part}", _HIDDEN, _HIDDEN)
        shapes |= _dense(f"{layer}.intermediate.dense", _HIDDEN, _INNER)
        shapes |= _dense(f"{layer}.output.dense", _INNER, _HIDDEN)
        shapes |= _norm(f"{layer}.attention.output") | _norm(f"{layer}.output")
    return shapes


def _dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(above: str) -> dict[str, tuple[int, ...]]:
    return {f"{above}.LayerNorm.weight": (_HIDDEN,), f"{above}.LayerNorm.bias": (_HIDDEN,)}
