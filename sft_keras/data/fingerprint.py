"""Content hashes of examples. Does not import TensorFlow."""

from __future__ import annotations

import hashlib
from typing import cast

import numpy as np
from typing_extensions import Buffer

DIGEST_SIZE = 16
"""Bytes per digest, enough that different inputs do not collide by chance."""


def digest(values: np.ndarray) -> bytes:
    """Return the hash of an array's dtype, shape and bytes, `DIGEST_SIZE` bytes long."""
    hasher = hashlib.sha256(f"{values.dtype}{values.shape}".encode())
    hasher.update(cast(Buffer, np.ascontiguousarray(values)))
    return hasher.digest()[:DIGEST_SIZE]
