"""The start of a notebook. Does not import TensorFlow when it is imported."""

from __future__ import annotations

import logging

from sft_keras.cli.tensorflow import start_tensorflow


def begin() -> None:
    """Imports TensorFlow without the notes of its libraries, and says what it will train on."""
    start_tensorflow()
    # Below a cell its notes on tracing and files bury what a run says.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    import tensorflow as tf

    from sft_keras.core.versions import package_versions

    versions = package_versions()
    named = ", ".join(f"{name} {versions[name]}" for name in ("sft_keras", "tensorflow", "keras"))
    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    gpus = ", ".join(each.get("device_name", "GPU") for each in details)
    print(f"{named}; {gpus or 'no GPU'}")
