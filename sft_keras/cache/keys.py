"""Hashes that address cached features: collection keys and the row names of augmented views."""

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
_REFERENCES = ("keras_history", "input_layers", "output_layers")  # entries that hold layer names
# Entries of a serialized object, beside its class and "config", that do not affect its output: the
# name is repeated in "config", and a layer has a "build_config" only after it has been called.
_IRRELEVANT = ("name", "build_config", "compile_config")


def collection_key(
    prefix: keras.Model, preprocess: Sequence[keras.Layer], settings: Mapping[str, Any]
) -> str:
    """Return the key of the collection of a prefix's outputs, 64 hexadecimal digits.

    Args:
      prefix: The model from scaled input to the boundary, with its weights.
      preprocess: The layers that scale the input, see `BuiltBackbone.preprocess`.
      settings: Everything else that affects the stored bits, such as their dtype;
        JSON-serializable.
    """
    parts = {
        "format": _FORMAT,
        "versions": {"sft_keras": versions.__version__, **_versions()},
        # Device types round differently: a GPU multiplies in TF32 where a CPU uses float32.
        "devices": sorted({device.device_type for device in tf.config.list_logical_devices()}),
        "graph": [_configuration(part) for part in (prefix, *preprocess)],
        "weights": [_weights_digest(part) for part in (prefix, *preprocess)],
        "settings": dict(settings),
    }
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def view_rows(digests: np.ndarray, labels: np.ndarray, views: int, drawn_from: str) -> np.ndarray:
    """Return the row names of augmented views, uint8 [views * n, DIGEST_SIZE].

    A view depends on the whole split because examples are drawn, and mixed, in batches.

    Args:
      digests: Input digests of the split's examples, uint8 [n, DIGEST_SIZE].
      labels: int32 [n], or targets, float32 [n, ...]. The targets derived from them are stored
        with the views, mixed as the images are.
      views: Number of views per example.
      drawn_from: Everything that affects the random draws: augmentation, seed and batch size.
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
        # tf-nightly, for example, provides tensorflow under another name.
        return getattr(sys.modules.get(package), "__version__", "not installed")


def _configuration(part: keras.Layer) -> str:
    """Return the configuration of a layer or model, reduced to what affects its output."""
    config = _plain(keras.saving.serialize_keras_object(part), {})
    return json.dumps(config, sort_keys=True, default=repr)


def _plain(config: Any, numbers: dict[str, str]) -> Any:
    """Return a configuration without irrelevant entries and with layer names canonicalized.

    Keras numbers its default layer names by what was built earlier in the process. Names are
    replaced only in entries that hold layer names: the "relu" of an activation stays as it is,
    whatever the layers are called, and so does the name of a dtype policy.

    Args:
      config: Configuration of a layer, or a part of one.
      numbers: {layer name: canonical name} of the layers seen so far; extended in place.
    """
    if isinstance(config, list | tuple):
        return [_plain(item, numbers) for item in config]
    if not isinstance(config, Mapping) or "DTypePolicy" in str(config.get("class_name")):
        return config
    is_object = "class_name" in config
    plain: dict[str, Any] = {}
    for key, value in config.items():
        if key in _REFERENCES:
            plain[key] = _numbered(value, numbers)
        elif is_object and key == "config" and isinstance(value, Mapping):
            plain["called"] = _numbered(value.get("name"), numbers)
            # A layer computes the same whether it is frozen or not.
            kept = {name: value[name] for name in value if name not in ("name", "trainable")}
            plain[key] = _plain(kept, numbers)
        elif not (is_object and key in _IRRELEVANT):
            plain[key] = _plain(value, numbers)
    return plain


def _numbered(value: Any, numbers: dict[str, str]) -> Any:
    """Return a name, or nested lists and dicts of names, with the names replaced by numbers."""
    if isinstance(value, str):
        return numbers.setdefault(value, f"#{len(numbers)}")
    if isinstance(value, list | tuple):
        return [_numbered(item, numbers) for item in value]
    if isinstance(value, Mapping):
        return {key: _numbered(item, numbers) for key, item in value.items()}
    return value


def _weights_digest(part: keras.Layer) -> str:
    digest = hashlib.sha256()
    for variable in part.weights:
        digest.update(f"{variable.dtype}{tuple(variable.shape)}".encode())
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()
