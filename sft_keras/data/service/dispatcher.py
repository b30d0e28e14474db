"""Check the dispatcher of a tf.data service: its address, whether it responds, and its workers.

TensorFlow itself would wait an hour for a dispatcher that does not respond, and forever for
workers.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from sft_keras.core.errors import DataServiceError, RecipeError

if TYPE_CHECKING:
    from sft_keras.recipe.recipe import Recipe

RPC_TIMEOUT = 5.0
"""Seconds that a dispatcher has to respond."""

WORKER_TIMEOUT = 15.0
"""Seconds that workers have to register with a dispatcher."""

_ADDRESS = re.compile(r"grpc://(?P<target>(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5}))")
_POLL_INTERVAL = 0.5  # seconds


def require_data_service(address: str, recipe: Recipe) -> None:
    """Check, before the start of a run, that a data service can read its data and is running.

    Args:
      address: The address of its dispatcher, from the user.
      recipe: The recipe of the run.

    Raises:
      RecipeError: If the address is invalid, or the recipe's data cannot be read by a service.
      DataServiceError: If the dispatcher does not respond, or has no workers.
    """
    parse_address(address)
    data, task = recipe.data, recipe.task
    kind = data.source.partition(":")[0] if isinstance(data.source, str) else "Python objects"
    if kind not in task.service_sources:
        supported = " or ".join(f"{source}:" for source in task.service_sources) or "none"
        raise RecipeError(
            "--data_service decodes images in files that its workers can read; texts are read only "
            "once, and data from Python or tensorflow-datasets is in this process. Sources that it "
            f"supports for {type(task).__name__}: {supported}. Received: {kind!r}. Run without "
            "--data_service."
        )
    require_dispatcher(address)
    deadline = time.monotonic() + WORKER_TIMEOUT
    while not has_workers(address):
        if time.monotonic() > deadline:
            raise DataServiceError(
                f"The data service must have workers. Received: none at {address} within "
                f"{WORKER_TIMEOUT:.0f} s. Start some: python -m sft_keras.data_service --worker "
                f"--dispatcher_address={parse_address(address)}"
            )
        time.sleep(_POLL_INTERVAL)


def parse_address(address: str) -> str:
    """Return the HOST:PORT of an address.

    >>> parse_address("grpc://10.0.0.1:5000")
    '10.0.0.1:5000'

    Raises:
      RecipeError: If the address is not grpc://HOST:PORT.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 2**16:
        raise RecipeError(
            "The address of a data service's dispatcher must be grpc://HOST:PORT, such as "
            f"grpc://10.0.0.1:5000. Received: {address!r}."
        )
    return match["target"]


def require_dispatcher(address: str) -> None:
    """Raise a `DataServiceError` if no dispatcher responds at an address."""
    _call(address, "GetVersion")


def has_workers(address: str) -> bool:
    """Return whether workers have registered with a dispatcher.

    Raises:
      DataServiceError: If no dispatcher responds.
    """
    return bool(_call(address, "GetWorkers"))


def _call(address: str, method: str) -> bytes:
    """Return the serialized response to an RPC with an empty request."""
    import grpc

    with grpc.insecure_channel(parse_address(address)) as channel:
        call = channel.unary_unary(f"/tensorflow.data.DispatcherService/{method}")
        try:
            return call(b"", timeout=RPC_TIMEOUT)
        except grpc.RpcError as error:
            raise DataServiceError(
                f"The data service's dispatcher must respond within {RPC_TIMEOUT:.0f} s. "
                f"Received: no response from {address} ({error.details()}). Check that it is "
                "running (python -m sft_keras.data_service --dispatcher), that this is the address "
                "of the dispatcher and not of a worker, and that this machine can reach that port."
            ) from None
