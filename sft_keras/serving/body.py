"""Reading the body of a request, of which no more is kept than is allowed."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from sft_keras.serving.faults import TIMEOUT, TOO_LARGE, WRONG_ENCODING, RequestError

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
