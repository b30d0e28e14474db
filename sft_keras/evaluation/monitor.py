"""Monitors of validation outputs."""

from __future__ import annotations

import keras


class OutputMonitor(keras.metrics.Metric):
    """Looks at validation outputs for what a person should know; it is no figure to be shown.

    Its variables are sums over examples, as those of other metrics are.
    """

    def warning(self) -> str | None:
        """Returns sentences on what it has seen since it was reset, or None.

        "{where}" in them stands for where that was: "after the first epoch of stage ...".
        """
        raise NotImplementedError
