"""The web application: from an HTTP request to an answer, whatever is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response
from starlette.routing import Route

from sft_keras.export.paths import VERSION
from sft_keras.serving import errors
from sft_keras.serving.errors import TIMEOUT, TOO_LARGE, WRONG_ENCODING, RequestError
from sft_keras.serving.model import ServedModel
from sft_keras.serving.response import write_error

LOG = logging.getLogger("sft_keras.serve")

_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]{1,18}))?"
    r"(?P<what>|/metadata|:predict|:classify|:regress)"
)
_CLIENT_GONE = 499  # what servers write into their logs for it; nobody receives it
_SHOWN = 160  # characters of a reason in the log


class Application:
    """Answers HTTP requests by a model, a bounded number at a time."""

    def __init__(self, model: ServedModel) -> None:
        """Makes a thread for each request that the limits of the model let in."""
        self._model = model
        self._open = 0
        self._pool = ThreadPoolExecutor(model.limits.waiting, thread_name_prefix="predict")

    def starlette(self) -> Starlette:
        """Returns it as a Starlette application, which ends the threads at its end."""
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(
            routes=[Route("/{path:path}", self._respond, methods=methods)],
            lifespan=self._lifespan,
            exception_handlers={HTTPException: _refused},
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self._pool.shutdown(cancel_futures=True)

    async def _respond(self, http: HTTPRequest) -> Response:
        began, note = time.perf_counter(), ""
        try:
            status, body, note = 200, *await self._answer(http)
        except RequestError as error:
            status, body, note = error.status, write_error(str(error)), str(error)
        except ClientDisconnect:
            status, body = _CLIENT_GONE, b""
        except Exception as error:
            # Whatever it is, it is this request's alone; the client learns nothing of the inside.
            LOG.exception("A request failed: %s", type(error).__name__)
            status, body = errors.INTERNAL, write_error("The server failed to answer this request.")
        _log(http, status, note, began)
        headers = {"Retry-After": "1"} if status == errors.BUSY else {}
        return Response(body, status, headers, "application/json")

    async def _answer(self, http: HTTPRequest) -> tuple[bytes, str]:
        """Returns the body of the answer, and a note for the log."""
        path = http.scope["path"]
        malformed = f"Malformed request: {http.method} {path[:_SHOWN]}"
        found = _PATH.fullmatch(path)
        if found is None:
            raise RequestError(malformed)
        name, version, what = found.group("name", "version", "what")
        if name != self._model.name or int(version or VERSION) != VERSION:
            wanted = f"Specific({name}, {version})" if version else f"Latest({name})"
            raise RequestError(
                f"Servable not found for request: {wanted[:_SHOWN]}", errors.NOT_FOUND
            )
        if http.method == "GET" and what in ("", "/metadata"):
            found = self._model.metadata() if what else self._model.status()
            return json.dumps(found, indent=1).encode(), ""
        if http.method != "POST" or not what.startswith(":"):
            raise RequestError(malformed)
        if what != ":predict":
            raise RequestError(
                "The signatures of this model are for :predict alone. Received: " + what
            )
        return await self._predict(http)

    async def _predict(self, http: HTTPRequest) -> tuple[bytes, str]:
        limits = self._model.limits
        if self._open >= limits.waiting:
            raise RequestError(
                f"{self._open} requests are waiting, and there is no room for more. Try again.",
                errors.BUSY,
            )
        self._open += 1
        try:
            body = await read_body(http, limits.body_bytes, limits.read_seconds)
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._pool, self._model.predict, body)
        finally:
            self._open -= 1
        return answer.body, f"{answer.instances} instance{'s' * (answer.instances != 1)}"


def _log(http: HTTPRequest, status: int, note: str, began: float) -> None:
    took = 1000 * (time.perf_counter() - began)
    # As JSON: what a client sends must not look like a line of the log.
    asked = f"{http.method} {http.scope['path']}"
    what = (json.dumps(each[:_SHOWN])[1:-1] for each in (asked, note))
    LOG.info("%d %s %s %.0f ms", status, *what, took)


async def _refused(http: HTTPRequest, error: HTTPException) -> Response:
    """Answers what no route takes: other methods, and paths with a line feed in them."""
    _log(http, error.status_code, error.detail, time.perf_counter())
    return Response(write_error(error.detail), error.status_code, None, "application/json")


_DROPPED = 8  # times the limit


async def read_body(http: Request, limit: int, seconds: float) -> bytes:
    """Returns the body of a request.

    Args:
      http: The request.
      limit: The most bytes.
      seconds: For all of it to arrive.

    Raises:
      RequestError: If it is too large, too slow or compressed.
      ClientDisconnect: If the client goes away before.
    """
    encoding = http.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise RequestError(
            "The body of a request must not be compressed. "
            f"Received: Content-Encoding {encoding[:40]!r}.",
            WRONG_ENCODING,
        )
    declared = _declared(http)
    if declared > limit and http.headers.get("expect", "").lower() == "100-continue":
        raise _too_large(limit)  # The client asks before it sends anything.
    try:
        async with asyncio.timeout(seconds):
            return await _received(http, limit, max(declared, limit) <= limit * _DROPPED)
    except TimeoutError as error:
        raise RequestError(
            f"The body of a request must arrive within {seconds:g} seconds.", TIMEOUT
        ) from error


async def _received(http: Request, limit: int, drop: bool) -> bytes:
    chunks, size = [], 0
    async for chunk in http.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
            continue
        chunks.clear()
        # Read to its end, but not kept: most clients read no answer before they have sent all.
        if not drop or size > limit * _DROPPED:
            break
    if size > limit:
        raise _too_large(limit)
    return b"".join(chunks)


def _declared(http: Request) -> int:
    length = http.headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def _too_large(limit: int) -> RequestError:
    return RequestError(
        f"A request may have at most {limit / 2**20:g} MB. Send fewer instances.", TOO_LARGE
    )
