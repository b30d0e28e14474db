"""The hashes by which stored boundary outputs are found again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.core import versions
from sft_keras.data.fingerprint import DIGEST_SIZE

_FORMAT = 1
_PACKAGES = ("tensorflow", "keras", "keras-hub")
_REFERENCES = ("keras_history", "input_layers", "output_layers")  # name layers in a configuration
# What an object's configuration has beside its class and "config", and that decides on no bit: the
# name is in "config" too, and a layer has a "build_config" only once it was called.
_SILENT = ("name", "build_config", "compile_config")
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
        "versions": {"sft_keras": versions.__version__, **_versions()},
        # Kinds of device round differently: a GPU multiplies in TF32 where a CPU does in float32.
        "devices": sorted({device.device_type for device in tf.config.list_logical_devices()}),
        "graph": [_configuration(part) for part in (prefix, *preprocess)],
        "weights": [_weights_digest(part) for part in (prefix, *preprocess)],
        "settings": dict(settings),
    }
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def view_rows(digests: np.ndarray, labels: np.ndarray, views: int, drawn_from: str) -> np.ndarray:
    """Returns the names of the rows of augmented views, uint8 [views * n, DIGEST_SIZE].

    A view depends on the whole split: its examples are drawn, and mixed, in batches.

    Args:
      digests: Of the split's examples, uint8 [n, DIGEST_SIZE].
      labels: int32 [n], or targets, float32 [n, ...]; what is made of them is stored with the
        views, mixed as the images are.
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
    return {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        # As with tf-nightly, which is tensorflow under another name.
        return getattr(sys.modules.get(package), "__version__", "not installed")


def _configuration(part: keras.Layer) -> str:
    """Returns the configuration of a layer or model, without what says nothing on its output."""
    config = _plain(keras.saving.serialize_keras_object(part), {})
    return json.dumps(config, sort_keys=True, default=repr)


def _plain(config: Any, numbers: dict[str, str]) -> Any:
    """Returns a configuration without what says nothing, and with layers called by their order.

    Keras numbers the names it makes up by what was built before in the process. Only names are
    changed, where a name stands: the "relu" of an activation is no name, whatever layers are
    called, nor is that of a dtype policy.

    Args:
      config: Of a layer, or a part of it.
      numbers: {name: what to call it}, of the layers met so far; those that are new are added.
    """
    if isinstance(config, list | tuple):
        return [_plain(each, numbers) for each in config]
    if not isinstance(config, Mapping) or "DTypePolicy" in str(config.get("class_name")):
        return config
    is_object = "class_name" in config
    plain: dict[str, Any] = {}
    for key, value in config.items():
        if key in _REFERENCES:
            plain[key] = _numbered(value, numbers)
        elif is_object and key == "config" and isinstance(value, Mapping):
            plain["called"] = _numbered(value.get("name"), numbers)
            # Frozen or not, it computes the same.
            kept = {each: value[each] for each in value if each not in ("name", "trainable")}
            plain[key] = _plain(kept, numbers)
        elif not (is_object and key in _SILENT):
            plain[key] = _plain(value, numbers)
    return plain


def _numbered(value: Any, numbers: dict[str, str]) -> Any:
    """Returns a name, or lists and dicts with names in them, with numbers for the names."""
    if isinstance(value, str):
        return numbers.setdefault(value, f"#{len(numbers)}")
    if isinstance(value, list | tuple):
        return [_numbered(each, numbers) for each in value]
    if isinstance(value, Mapping):
        return {key: _numbered(each, numbers) for key, each in value.items()}
    return value


def _weights_digest(part: keras.Layer) -> str:
    found = hashlib.sha256()
    for variable in part.weights:
        found.update(f"{variable.dtype}{tuple(variable.shape)}".encode())
        found.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return found.hexdigest()
