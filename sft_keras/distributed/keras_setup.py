"""Seed, precision and determinism of Keras for one run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from sft_keras.core.errors import RecipeError
from sft_keras.distributed.devices import ONE_DEVICE, Devices
from sft_keras.recipe.recipe import Recipe

_BFLOAT16_SINCE = (8, 0)  # the NVIDIA compute capability of Ampere


@contextlib.contextmanager
def configured_keras(recipe: Recipe, devices: Devices = ONE_DEVICE) -> Iterator[None]:
    """Context manager: set seed, dtype policy and determinism as the recipe says.

    The dtype policy is restored on exit. Op determinism applies to the whole process and cannot be
    turned off again.

    Args:
      recipe: The recipe to run.
      devices: The devices to run it on.

    Raises:
      RecipeError: If Keras was imported with a backend other than TensorFlow.

    Example:

    ```python
    with configured_keras(recipe):
        backbone = build_backbone(recipe.backbone)
    ```
    """
    if keras.backend.backend() != "tensorflow":
        raise RecipeError(
            "Keras must run on TensorFlow. "
            f"Received: the backend {keras.backend.backend()!r}. "
            "Import sft_keras before keras, or set KERAS_BACKEND=tensorflow."
        )
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_dtype_policy(recipe, devices))
    keras.utils.set_random_seed(recipe.seed)
    # Programs that XLA compiles for TPUs are deterministic without it; with it, XLA rejects the
    # gradient of max pooling.
    if recipe.deterministic and not devices.needs_static_shapes:
        tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def _dtype_policy(recipe: Recipe, devices: Devices) -> str:
    """Return the recipe's dtype policy; if it is "auto", that of the devices."""
    if recipe.precision != "auto":
        return recipe.precision
    if devices.dtype_policy is not None:
        return devices.dtype_policy
    gpus = tf.config.list_physical_devices("GPU")
    details = map(tf.config.experimental.get_device_details, gpus)
    supported = [gpu.get("compute_capability", (0, 0)) >= _BFLOAT16_SINCE for gpu in details]
    return "mixed_bfloat16" if supported and all(supported) else "float32"
