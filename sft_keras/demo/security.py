"""Restricts the page to uploaded files, and browsers to this host.

A request refers to a file by its path. If a page is not started by Gradio's own `launch`, Gradio
accepts any path of this machine; it also always fetches URLs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder


def read_upload(file: Mapping[str, Any] | None) -> bytes | None:
    """Return the content of the file that a request refers to; None for no file.

    Raises:
      gr.Error: The file was not uploaded to this page.
    """
    return None if file is None else _uploaded(file["path"]).read_bytes()


def restrict_to_uploads(page: gr.Blocks) -> None:
    """Prevent Gradio from copying or fetching anything that was not uploaded."""
    page.has_launched = True  # Gradio checks the location of files only then
    for block in page.blocks.values():
        # Gradio has no hook for this.
        block.async_move_resource_to_block_cache = _require_upload  # type: ignore[method-assign, assignment]


async def _require_upload(path: str | Path | None) -> str | None:
    return None if path is None else str(_uploaded(path))


def _uploaded(path: str | Path) -> Path:
    resolved = Path(path).resolve()
    if not resolved.is_relative_to(Path(get_upload_folder()).resolve()) or not resolved.is_file():
        raise gr.Error("The file must have been uploaded to this page.")
    return resolved


_POLICY = (
    b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    b"base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)


Message = MutableMapping[str, Any]


class SameOriginPolicy:
    """ASGI middleware whose headers forbid browsers to contact any other host."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Handle one request."""

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = [
                    (b"content-security-policy", _POLICY),
                    (b"referrer-policy", b"no-referrer"),
                ]
                message["headers"] = [*message.get("headers", ()), *policy]
            await send(message)

        await self._app(scope, receive, with_policy)
