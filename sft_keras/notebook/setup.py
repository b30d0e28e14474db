"""Prepares a notebook. Importing this module does not import TensorFlow."""

from __future__ import annotations

import logging

from sft_keras.cli.tensorflow import start_tensorflow


def begin() -> None:
    """Import TensorFlow without its start-up messages, and print versions and GPUs."""
    start_tensorflow()
    # TensorFlow's messages on tracing and files would bury the log of a run below the cell.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    import tensorflow as tf

    from sft_keras.core.versions import package_versions

    versions = package_versions()
    packages = ", ".join(
        f"{name} {versions[name]}" for name in ("sft_keras", "tensorflow", "keras")
    )
    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    gpus = ", ".join(detail.get("device_name", "GPU") for detail in details)
    print(f"{packages}; {gpus or 'no GPU'}")
