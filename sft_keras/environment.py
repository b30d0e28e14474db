"""What a run ran on, and Keras set up the way a recipe asks."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from sft_keras.devices import ONE_DEVICE, Devices
from sft_keras.errors import RecipeError
from sft_keras.recipe import Recipe

_BFLOAT16_FROM = (8, 0)  # NVIDIA's compute capability: Ampere
_PACKAGES = ("sft_keras", "tensorflow", "keras", "keras-hub", "tensorflow-datasets", "numpy")


@contextlib.contextmanager
def keras_for(recipe: Recipe, devices: Devices = ONE_DEVICE) -> Iterator[None]:
    """Sets seed, dtype policy and determinism; puts the dtype policy back at the end.

    TensorFlow's op determinism is for the whole process and stays on.

    Args:
      recipe: What is to be run.
      devices: What on.

    Raises:
      RecipeError: If Keras was imported with another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise RecipeError(
            "Keras must run on TensorFlow. "
            f"Received: the backend {keras.backend.backend()!r}. "
            "Import sft_keras before keras, or set KERAS_BACKEND=tensorflow."
        )
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_dtype_policy(recipe, devices))
    keras.utils.set_random_seed(recipe.seed)
    # What XLA compiles for TPUs is deterministic; asked to be, it refuses gradients of maxima.
    if recipe.deterministic and not devices.compiles_shapes:
        tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def _dtype_policy(recipe: Recipe, devices: Devices) -> str:
    """Returns what a recipe computes in, on this machine."""
    if recipe.precision != "auto":
        return recipe.precision
    if devices.precision is not None:
        return devices.precision
    gpus = tf.config.list_physical_devices("GPU")
    details = map(tf.config.experimental.get_device_details, gpus)
    made_for_it = [each.get("compute_capability", (0, 0)) >= _BFLOAT16_FROM for each in details]
    return "mixed_bfloat16" if made_for_it and all(made_for_it) else "float32"


def environment() -> dict[str, Any]:
    """Returns the versions and the machine as plain values, for the report."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "accelerators": [
            device.name
            for kind in ("GPU", "TPU")
            for device in tf.config.list_physical_devices(kind)
        ],
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Returns the version of each package that results depend on."""
    return {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
