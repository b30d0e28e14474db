"""Seeds, precision and determinism of Keras for one run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from sft_keras.core.errors import RecipeError
from sft_keras.distributed.device import ONE_DEVICE, Devices
from sft_keras.recipe.recipe import Recipe

_BFLOAT16_FROM = (8, 0)  # NVIDIA's compute capability: Ampere


@contextlib.contextmanager
def configured_keras(recipe: Recipe, devices: Devices = ONE_DEVICE) -> Iterator[None]:
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
