"""The hashes by which stored boundary outputs are found again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

import sft_keras
from sft_keras.data.digests import DIGEST_SIZE

_FORMAT = 1
_PACKAGES = ("tensorflow", "keras", "keras-hub")
_HISTORY = ("build_config", "compile_config")  # of a configuration: what was done with the layer


def collection_key(
    prefix: keras.Model, preprocess: Sequence[keras.Layer], settings: Mapping[str, Any]
) -> str:
    """Returns the name of the collection of what a prefix gives, 64 hexadecimal digits.

    Args:
      prefix: From scaled input to the boundary, with its weights.
      preprocess: The layers that scale the input, see `BuiltBackbone.preprocess`.
      settings: Whatever else decides on the bits that are stored, such as their dtype; JSON-able.
    """
    parts = {
        "format": _FORMAT,
        "versions": {"sft_keras": sft_keras.__version__, **_versions()},
        "graph": [_configuration(part) for part in (prefix, *preprocess)],
        "weights": _weights_digest(prefix),
        "settings": dict(settings),
    }
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def view_rows(digests: np.ndarray, labels: np.ndarray, views: int, drawn_from: str) -> np.ndarray:
    """Returns the names of the rows of augmented views, uint8 [views * n, DIGEST_SIZE].

    A view depends on the whole split: its examples are drawn, and mixed, in batches.

    Args:
      digests: Of the split's examples, uint8 [n, DIGEST_SIZE].
      labels: int32 [n]; they are stored with the views, mixed as the images are.
      views: How many there are of each.
      drawn_from: All that decides on what is drawn: the augmentation, the seed, the batch size.
    """
    split = hashlib.sha256(drawn_from.encode())
    split.update(np.ascontiguousarray(digests).tobytes())
    split.update(np.ascontiguousarray(labels).tobytes())
    names = [
        hashlib.sha256(split.digest() + row.to_bytes(8, "little")).digest()[:DIGEST_SIZE]
        for row in range(views * len(digests))
    ]
    return np.frombuffer(b"".join(names), np.uint8).reshape(-1, DIGEST_SIZE)


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _configuration(part: keras.Layer) -> str:
    """Returns the configuration of a layer or model, layers called by their order.

    Keras numbers the names it makes up by what was built before in the process: they say nothing.
    """
    config = keras.saving.serialize_keras_object(part)
    names: dict[str, str] = {}
    for name in _names(config):
        names.setdefault(name, f"#{len(names)}")
    return json.dumps(_renamed(config, names), sort_keys=True, default=repr)


def _names(config: Any) -> Iterator[str]:
    if isinstance(config, Mapping):
        if isinstance(config.get("name"), str):
            yield config["name"]
        config = config.values()
    elif not isinstance(config, list | tuple):
        return
    for value in config:
        yield from _names(value)


def _renamed(config: Any, names: Mapping[str, str]) -> Any:
    if isinstance(config, Mapping):
        kept = {key: value for key, value in config.items() if key not in _HISTORY}
        return {key: _renamed(value, names) for key, value in kept.items()}
    if isinstance(config, list | tuple):
        return [_renamed(value, names) for value in config]
    return names.get(config, config) if isinstance(config, str) else config


def _weights_digest(model: keras.Model) -> str:
    found = hashlib.sha256()
    for variable in model.weights:
        found.update(f"{variable.dtype}{tuple(variable.shape)}".encode())
        found.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return found.hexdigest()
