"""Figures of epochs for TensorBoard, while a run goes on.

tensorboard --logdir=runs
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

_VALIDATION = "val_"
# `tf.summary.scalar` writes the same, and fails where TensorBoard itself is not installed.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
)


class TensorBoard:
    """Writes FOLDER/train and FOLDER/validation, which TensorBoard shows in one plot."""

    def __init__(self, folder: Path) -> None:
        """`folder` may hold what the run has written before it was stopped."""
        self._writers = {
            split: tf.summary.create_file_writer(str(folder / split))
            for split in ("train", "validation")
        }

    def note(self, step: int, figures: Mapping[str, float]) -> None:
        """Notes the figures of an epoch.

        Args:
          step: Batches trained on, in all stages together.
          figures: By name; those of validation begin with "val_".
        """
        for name, value in figures.items():
            split = "validation" if name.startswith(_VALIDATION) else "train"
            with self._writers[split].as_default():
                tag = name.removeprefix(_VALIDATION)
                tf.summary.write(tag, tf.constant(value, tf.float32), step, metadata=_SCALAR)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()
