"""How a run is started, apart from its recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sft_keras.core.reporter import Reporter
from sft_keras.data.service.client import DataService
from sft_keras.distributed.cluster import WORKER_TIMEOUT, Cluster, Strategy
from sft_keras.distributed.devices import Devices
from sft_keras.distributed.factory import create_devices
from sft_keras.recipe.loader import LoadedRecipe


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options of a run that are not part of its recipe; see `finetune` for their meaning.

    Attributes:
      strategy: The devices to train on.
      cluster: The workers that train together; None for a run in one process.
      resume: Whether to resume the run in the run folder.
      allow_changed: Recipe fields that may differ from those of the run to resume.
      worker_timeout: Seconds to wait for the other workers.
      virtual_devices: Number of devices to split the CPU into; 0 for none.
      service: The tf.data service that reads and decodes the examples; None to do it here.
    """

    strategy: Strategy = "auto"
    cluster: Cluster | None = None
    resume: bool = False
    allow_changed: Sequence[str] = ()
    worker_timeout: float = WORKER_TIMEOUT
    virtual_devices: int = 0
    service: DataService | None = None

    def create_devices(self, loaded: LoadedRecipe, reporter: Reporter) -> Devices:
        """Return the devices to train on, after the rendezvous with the other workers, if any.

        Args:
          loaded: The recipe, which must be the same on all workers.
          reporter: Receives log lines.

        Raises:
          ClusterError: If a worker does not come or runs something else.
        """
        return create_devices(
            self.strategy,
            self.cluster,
            loaded,
            virtual_devices=self.virtual_devices,
            resume=self.resume,
            timeout=self.worker_timeout,
            reporter=reporter,
        )
