"""The error of an invalid or rejected request, and its HTTP status."""

from __future__ import annotations

BAD_REQUEST, NOT_FOUND, TIMEOUT, TOO_LARGE = 400, 404, 408, 413
WRONG_ENCODING, INTERNAL, BUSY = 415, 500, 503


class RequestError(Exception):
    """A request is invalid or rejected. The client receives the message.

    Attributes:
      status: The HTTP status of the response.
    """

    def __init__(self, message: str, status: int = BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status
