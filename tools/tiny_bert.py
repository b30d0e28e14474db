"""Write a tiny, randomly initialised BERT in the format of Hugging Face's `save_pretrained`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
_LAYERS, _HIDDEN, _INTERMEDIATE, _POSITIONS = 2, 32, 64, 128


def write_tiny_bert(folder: Path, texts: str) -> None:
    """Write the model and its vocabulary, to be loaded as "hf:FOLDER".

    Args:
      folder: Folder to write to; created if it does not exist.
      texts: Text whose words form the vocabulary; other words are tokenized into letters.
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
        "intermediate_size": _INTERMEDIATE,
        "hidden_dropout_prob": 0.1,
        "max_position_embeddings": _POSITIONS,
        "type_vocab_size": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    generator = np.random.default_rng(0)
    weights = {
        name: generator.normal(scale=shape[-1] ** -0.5, size=shape).astype(np.float32)
        for name, shape in _shapes(len(vocabulary)).items()
    }
    for name, values in weights.items():
        if name.endswith("LayerNorm.weight"):
            values[:] = 1.0
        elif name.endswith("bias"):
            values[:] = 0.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _shapes(vocabulary_size: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by its Hugging Face name."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocabulary_size, _HIDDEN),
        "embeddings.position_embeddings.weight": (_POSITIONS, _HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, _HIDDEN),
        **_norm("embeddings"),
        **_dense("pooler.dense", _HIDDEN, _HIDDEN),
    }
    for number in range(_LAYERS):
        layer = f"encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= _dense(f"{layer}.attention.{part}", _HIDDEN, _HIDDEN)
        shapes |= _dense(f"{layer}.intermediate.dense", _HIDDEN, _INTERMEDIATE)
        shapes |= _dense(f"{layer}.output.dense", _INTERMEDIATE, _HIDDEN)
        shapes |= _norm(f"{layer}.attention.output") | _norm(f"{layer}.output")
    return shapes


def _dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(prefix: str) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.LayerNorm.weight": (_HIDDEN,), f"{prefix}.LayerNorm.bias": (_HIDDEN,)}
