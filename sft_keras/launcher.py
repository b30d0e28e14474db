"""Which processes a run trains with, as whatever started this one says. Standard library only."""

from __future__ import annotations

import os

from sft_keras.cluster import Cluster, Strategy
from sft_keras.errors import ClusterError, RunFolderError
from sft_keras.slurm import cluster_from_slurm
from sft_keras.tf_config import TF_CONFIG_EXAMPLE, cluster_from_tf_config


def cluster_for(strategy: Strategy, run_dir: str | os.PathLike[str] | None) -> Cluster | None:
    """Returns the processes that a strategy asks for; None for this one alone.

    Raises:
      ClusterError: If TF_CONFIG or SLURM's variables cannot be understood, or are lacking.
      RunFolderError: If several processes are not told where the run is.
    """
    if strategy in ("one", "mirrored", "tpu"):
        return None
    cluster = cluster_from_tf_config(os.environ) or cluster_from_slurm(os.environ)
    if cluster is None and strategy == "multi_worker":
        raise ClusterError(
            "--strategy=multi_worker needs to know which processes train together. Received: no "
            "TF_CONFIG in the environment that names several, and no step of SLURM with several "
            f"tasks. Set it for each, e.g. {TF_CONFIG_EXAMPLE}."
        )
    if cluster is not None and run_dir is None:
        raise RunFolderError(
            "Several workers must be told where the run is, with --run_dir=FOLDER: the same for "
            f"all, on a disk that all can read. Received: none, and {len(cluster.addresses)} "
            "workers. (--strategy=one trains alone.)"
        )
    return cluster
