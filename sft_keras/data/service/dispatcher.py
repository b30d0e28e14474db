"""The dispatcher of a tf.data service: what its address must be, and whether it is there.

TensorFlow by itself would wait an hour for one that does not answer, and for ever for workers.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from sft_keras.core.errors import DataServiceError, RecipeError

if TYPE_CHECKING:
    from sft_keras.recipe.recipe import Recipe

RPC_TIMEOUT = 5.0
"""Seconds that a dispatcher has for an answer."""

WORKER_TIMEOUT = 15.0
"""Seconds that workers have to come to a dispatcher."""

_ADDRESS = re.compile(r"grpc://(?P<target>(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5}))")
_ASKED_AGAIN = 0.5  # seconds


def require_data_service(address: str, recipe: Recipe) -> None:
    """Checks, before the start, that a run's data can be read by a service, which is there.

    Args:
      address: Of its dispatcher, as it was given.
      recipe: The run's.

    Raises:
      RecipeError: If it is no address, or the recipe's data cannot be read there.
      DataServiceError: If no dispatcher answers, or it has no workers.
    """
    parse_address(address)
    data, task = recipe.data, recipe.task
    kind = data.source.partition(":")[0] if isinstance(data.source, str) else "Python objects"
    if kind not in task.service_sources:
        able = " or ".join(f"{each}:" for each in task.service_sources) or "nothing"
        raise RecipeError(
            "--data_service decodes pictures in files that its workers see; texts are read once, "
            f"and what Python or tensorflow-datasets hands over is in this process. Of what "
            f"{type(task).__name__} reads it can read {able}. Received: {kind!r}. Leave out "
            "--data_service."
        )
    require_dispatcher(address)
    deadline = time.monotonic() + WORKER_TIMEOUT
    while not has_workers(address):
        if time.monotonic() > deadline:
            raise DataServiceError(
                f"The data service must have workers. Received: none at {address}, for "
                f"{WORKER_TIMEOUT:.0f} s. Start some: python -m sft_keras.data_service --worker "
                f"--dispatcher_address={parse_address(address)}"
            )
        time.sleep(_ASKED_AGAIN)


def parse_address(address: str) -> str:
    """Returns the HOST:PORT of an address.

    Raises:
      RecipeError: If it is not grpc://HOST:PORT.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 2**16:
        raise RecipeError(
            "The address of a data service's dispatcher must be grpc://HOST:PORT, as in "
            f"grpc://10.0.0.1:5000. Received: {address!r}."
        )
    return found["target"]


def require_dispatcher(address: str) -> None:
    """Raises a `DataServiceError` if no dispatcher answers at an address."""
    _asked(address, "GetVersion")


def has_workers(address: str) -> bool:
    """Returns whether workers have come to a dispatcher; a `DataServiceError` if none answers."""
    return bool(_asked(address, "GetWorkers"))


def _asked(address: str, question: str) -> bytes:
    """Returns the answer to a question without content, as it came."""
    import grpc

    with grpc.insecure_channel(parse_address(address)) as channel:
        ask = channel.unary_unary(f"/tensorflow.data.DispatcherService/{question}")
        try:
            return ask(b"", timeout=RPC_TIMEOUT)
        except grpc.RpcError as error:
            raise DataServiceError(
                f"The data service's dispatcher must answer within {RPC_TIMEOUT:.0f} s. "
                f"Received: {address}, where none does ({error.details()}). Is it running (python "
                "-m sft_keras.data_service --dispatcher), is it the dispatcher's address and not a "
                "worker's, and may this machine reach that port?"
            ) from None
