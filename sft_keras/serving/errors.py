"""What is wrong with one request."""

from __future__ import annotations

BAD_REQUEST, NOT_FOUND, TIMEOUT, TOO_LARGE = 400, 404, 408, 413
WRONG_ENCODING, INTERNAL, BUSY = 415, 500, 503


class RequestError(Exception):
    """A request that is not answered; its message, for the client, says why.

    Attributes:
      status: The HTTP status.
    """

    def __init__(self, message: str, status: int = BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status
