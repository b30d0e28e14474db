"""One of several processes that train together, as TF_CONFIG says; or one alone.

    python program.py PLAN FOLDER PRESET new|resume

Trains a plan of `plans`, and writes what the tests compare. DIES_AT=STEP sends it SIGNAL there.
With COMPILED=yes the devices of VIRTUAL are treated as those of a TPU, but for the compiling.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(name: str, folder: str, preset: str, resume: str) -> None:
    import numpy as np
    import plans

    import sft_keras
    from sft_keras.core.errors import SFTError
    from sft_keras.distributed import factory
    from sft_keras.distributed.factory import local_devices
    from sft_keras.distributed.tpu import XlaReplicas
    from sft_keras.training.step import NO_REQUESTS, Steps

    sums, step = [], Steps.train
    dies_at = int(os.environ.get("DIES_AT", -1))

    def noted(self, batch, requests=NO_REQUESTS):
        asked = step(self, batch, requests)
        # Of the epoch so far: the losses, each times its examples, and the examples.
        sums.append([float(each.numpy()) for each in self._mean_loss.variables])
        if len(sums) == dies_at:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))
        return asked

    def as_of_a_tpu(strategy, count, batch_size):
        return XlaReplicas(local_devices(strategy, count, batch_size)._strategy, batch_size)

    Steps.train = noted
    if "COMPILED" in os.environ:
        factory.local_devices = as_of_a_tpu
    try:
        result = sft_keras.finetune(
            plans.plan(name, preset),
            run_dir=Path(folder, "run"),
            resume=resume == "resume",
            worker_timeout=60.0,
            virtual_devices=int(os.environ.get("VIRTUAL", 0)),
        )
    except SFTError as error:
        print(error, flush=True)
        sys.exit(error.exit_status)
    if result.report:
        history = {f"{s}/{k}": v for s, h in result.history.items() for k, v in h.items()}
        weights = {f"weights/{n:03d}": v.numpy() for n, v in enumerate(result.model.variables)}
        np.savez(Path(folder, "result.npz"), **history, **weights, steps=np.array(sums))


if __name__ == "__main__":
    main(*sys.argv[1:5])
