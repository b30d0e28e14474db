"""Import TensorFlow without the start-up messages of its native libraries."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

# Written on every machine without a GPU, whatever TF_CPP_MIN_LOG_LEVEL is.
_NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|I\d{4} .*(cudart_stub|cpu_feature_guard|port\.cc)"
    rb"|E\d{4} .*cuda_platform.*failed call to cuInit"
    rb"|To enable the following instructions:"
)


def start_tensorflow() -> None:
    """Import TensorFlow and Keras and list the devices, with known start-up messages removed.

    Only commands call this: a library must not redirect the standard error of its process.
    """
    with _without_noise():
        import keras
        import tensorflow as tf

        keras.backend.backend()
        tf.config.list_physical_devices()


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Filter known lines from standard error within the block.

    A child process filters, so that the last lines of a process that is killed still appear.
    """
    if not hasattr(os, "fork"):
        yield
        return
    original = os.dup(2)
    read, write = os.pipe()
    child = os.fork()  # noqa: TID251 - checked above
    if child == 0:
        os.close(write)
        with contextlib.suppress(BaseException), os.fdopen(read, "rb") as lines:
            for line in lines:
                if not _NOISE.match(line):
                    os.write(2, line)
        os._exit(0)
    os.close(read)
    os.dup2(write, 2)
    os.close(write)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.waitpid(child, 0)
