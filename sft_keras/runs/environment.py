"""The software and hardware of a run."""

from __future__ import annotations

import os
import platform
from typing import Any

import tensorflow as tf

from sft_keras.core.versions import package_versions


def environment() -> dict[str, Any]:
    """Return versions, platform and accelerators as plain values, for the report."""
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
