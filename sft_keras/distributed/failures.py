"""Explain the loss of another worker."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from sft_keras.core.errors import ClusterError
from sft_keras.distributed.cluster import Cluster

_GONE = re.compile(r"/task:(\d+)")


@contextlib.contextmanager
def explain_worker_loss(cluster: Cluster | None, run_dir: Path) -> Iterator[None]:
    """Says which worker has gone, where the block fails for want of it.

    Raises:
      ClusterError: If one has.
    """
    try:
        yield
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
        tf.errors.FailedPreconditionError,
    ) as error:
        named = map(int, _GONE.findall(str(error)))
        others = [] if cluster is None else [each for each in named if each != cluster.index]
        if cluster is None or ("ollective" not in str(error) and not others):
            raise
        who = cluster.name(others[0]) if others else "another worker"
        told = [line for line in str(error).splitlines() if "error" in line and "Graph" not in line]
        raise ClusterError(
            f"{who[0].upper()}{who[1:]} has gone, and the others cannot go on without it. See what "
            "it said last. Start all of them again, with --resume="
            f"{str(run_dir)!r} to go on from the latest checkpoint. TensorFlow says: "
            f"{(told or str(error).splitlines())[0][:300]}"
        ) from error
