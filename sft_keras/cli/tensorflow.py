"""TensorFlow's start without the notes of its libraries, which bury what a command says."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

# Said on every machine without a GPU, whatever the level of TensorFlow's log.
_NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|I\d{4} .*(cudart_stub|cpu_feature_guard|port\.cc)"
    rb"|E\d{4} .*cuda_platform.*failed call to cuInit"
    rb"|To enable the following instructions:"
)


def start_tensorflow() -> None:
    """Imports TensorFlow and Keras and looks for devices, without using one.

    For commands: a library that is imported should leave the process' standard error alone.
    """
    with _without_noise():
        import keras
        import tensorflow as tf

        keras.backend.backend()
        tf.config.list_physical_devices()


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Leaves known lines out of what is written to standard error within the block.

    By a process that outlives this one, should it be killed: its last words are not held back.
    """
    if not hasattr(os, "fork"):
        yield
        return
    before = os.dup(2)
    read, write = os.pipe()
    child = os.fork()
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
        os.dup2(before, 2)
        os.close(before)
        os.waitpid(child, 0)
