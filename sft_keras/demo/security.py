"""Which files a visitor of the page may have read: what was uploaded, and nothing else.

A request names the file it is about by its path. Where a page is not started by Gradio's own
`launch`, Gradio takes any path of this machine, and in any case fetches what is an address.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder


def read_upload(file: Mapping[str, Any] | None) -> bytes | None:
    """Returns the content of a file as a request names it; None for none.

    Raises:
      gr.Error: If it was not uploaded.
    """
    return None if file is None else _uploaded(file["path"]).read_bytes()


def keep_to_uploads(page: gr.Blocks) -> None:
    """Keeps Gradio from copying or fetching for a request what was not uploaded."""
    page.has_launched = True  # it looks where files lie only then
    for block in page.blocks.values():
        block.async_move_resource_to_block_cache = _stay


async def _stay(path: str | Path | None) -> str | None:
    return None if path is None else str(_uploaded(path))


def _uploaded(path: str | Path) -> Path:
    found = Path(path).resolve()
    if not found.is_relative_to(Path(get_upload_folder()).resolve()) or not found.is_file():
        raise gr.Error("What is asked about must have been uploaded to this page.")
    return found


_POLICY = (
    b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    b"base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)


Message = MutableMapping[str, Any]


class OwnHost:
    """An ASGI application whose answers forbid browsers to ask any other host."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answers one request."""

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(b"content-security-policy", _POLICY), (b"referrer-policy", b"no-referrer")]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        await self._app(scope, receive, with_policy)
