"""JSON from a file of somebody else's. Standard library only."""

from __future__ import annotations

import json
from typing import Any


def loaded_json(text: str) -> Any:
    """Returns what a text in JSON says.

    Raises:
      ValueError: If it is no JSON, has a number of thousands of digits, or a "\\ud83d" that is half
        of a character, which is in no UTF-8 and so in no tensor.
      RecursionError: If lists lie in lists too deep.
    """
    value = json.loads(text)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value
