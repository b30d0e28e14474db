"""The web application: routes HTTP requests to the model, and limits how many are open."""

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
    r"(?P<action>|/metadata|:predict|:classify|:regress)"
)
_CLIENT_CLOSED_REQUEST = 499  # the conventional status in server logs; it is never sent
_LOG_LENGTH = 160  # characters of a path or reason in the log
_MAX_DISCARDED = 8  # multiples of the limit up to which an oversized body is read and discarded


class Application:
    """Serves a model over HTTP, with a bounded number of open requests.

    Example:

        model = ServedModel("runs/quickstart", "quickstart", Limits(), threads=2)
        app = Application(model).starlette()
    """

    def __init__(self, model: ServedModel) -> None:
        """Create a pool with one thread per request that the model's limits admit."""
        self._model = model
        self._open_requests = 0
        self._pool = ThreadPoolExecutor(model.limits.open_requests, thread_name_prefix="predict")

    def starlette(self) -> Starlette:
        """Return a Starlette application, which stops the threads when it shuts down."""
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(
            routes=[Route("/{path:path}", self._respond, methods=methods)],
            lifespan=self._lifespan,
            exception_handlers={HTTPException: _http_error},
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self._pool.shutdown(cancel_futures=True)

    async def _respond(self, http: HTTPRequest) -> Response:
        start, note = time.perf_counter(), ""
        try:
            status, body, note = 200, *await self._answer(http)
        except RequestError as error:
            status, body, note = error.status, write_error(str(error)), str(error)
        except ClientDisconnect:
            status, body = _CLIENT_CLOSED_REQUEST, b""
        except Exception as error:
            # Any fault affects only this request, and the client receives no internal details.
            LOG.exception("A request failed: %s", type(error).__name__)
            status, body = errors.INTERNAL, write_error("The server failed to answer this request.")
        _log(http, status, note, start)
        headers = {"Retry-After": "1"} if status == errors.BUSY else {}
        return Response(body, status, headers, "application/json")

    async def _answer(self, http: HTTPRequest) -> tuple[bytes, str]:
        """Return the body of the response, and a note for the log."""
        path = http.scope["path"]
        malformed = f"Malformed request: {http.method} {path[:_LOG_LENGTH]}"
        match = _PATH.fullmatch(path)
        if match is None:
            raise RequestError(malformed)
        name, version, action = match.group("name", "version", "action")
        if name != self._model.name or int(version or VERSION) != VERSION:
            servable = f"Specific({name}, {version})" if version else f"Latest({name})"
            raise RequestError(
                f"Servable not found for request: {servable[:_LOG_LENGTH]}", errors.NOT_FOUND
            )
        if http.method == "GET" and action in ("", "/metadata"):
            description = self._model.metadata() if action else self._model.status()
            return json.dumps(description, indent=1).encode(), ""
        if http.method != "POST" or not action.startswith(":"):
            raise RequestError(malformed)
        if action != ":predict":
            raise RequestError(
                f"The signatures of this model support only :predict. Received: {action}"
            )
        return await self._predict(http)

    async def _predict(self, http: HTTPRequest) -> tuple[bytes, str]:
        limits = self._model.limits
        if self._open_requests >= limits.open_requests:
            raise RequestError(
                f"The server is busy: {self._open_requests} requests are open. Try again later.",
                errors.BUSY,
            )
        self._open_requests += 1
        try:
            body = await read_body(http, limits.body_bytes, limits.read_seconds)
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._pool, self._model.predict, body)
        finally:
            self._open_requests -= 1
        return answer.body, f"{answer.instances} instance{'s' * (answer.instances != 1)}"


def _log(http: HTTPRequest, status: int, note: str, start: float) -> None:
    milliseconds = 1000 * (time.perf_counter() - start)
    # Escaped as JSON, so that a client cannot forge lines of the log.
    request = f"{http.method} {http.scope['path']}"
    escaped = (json.dumps(text[:_LOG_LENGTH])[1:-1] for text in (request, note))
    LOG.info("%d %s %s %.0f ms", status, *escaped, milliseconds)


async def _http_error(http: HTTPRequest, error: Exception) -> Response:
    """Respond to requests without a route: other methods, and paths that contain a line feed."""
    if not isinstance(error, HTTPException):
        raise error
    _log(http, error.status_code, error.detail, time.perf_counter())
    return Response(write_error(error.detail), error.status_code, None, "application/json")


async def read_body(http: Request, limit: int, seconds: float) -> bytes:
    """Read the body of a request.

    Args:
      http: The request.
      limit: The maximum size in bytes.
      seconds: The time within which the whole body must arrive.

    Raises:
      RequestError: The body is too large, too slow or compressed.
      ClientDisconnect: The client disconnected before the end.
    """
    encoding = http.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise RequestError(
            "The body of a request must not be compressed. "
            f"Received: Content-Encoding {encoding[:40]!r}.",
            WRONG_ENCODING,
        )
    declared = _content_length(http)
    if declared > limit and http.headers.get("expect", "").lower() == "100-continue":
        raise _too_large(limit)  # The client asks before it sends the body.
    try:
        async with asyncio.timeout(seconds):
            return await _read_chunks(http, limit, max(declared, limit) <= limit * _MAX_DISCARDED)
    except TimeoutError as error:
        raise RequestError(
            f"The body of a request must arrive within {seconds:g} seconds.", TIMEOUT
        ) from error


async def _read_chunks(http: Request, limit: int, discard: bool) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in http.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
            continue
        chunks.clear()
        # Discard the rest, but read it: most clients read no response before they have sent all.
        if not discard or size > limit * _MAX_DISCARDED:
            break
    if size > limit:
        raise _too_large(limit)
    return b"".join(chunks)


def _content_length(http: Request) -> int:
    length = http.headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def _too_large(limit: int) -> RequestError:
    return RequestError(
        f"A request may have at most {limit / 2**20:g} MB. Send fewer instances.", TOO_LARGE
    )
