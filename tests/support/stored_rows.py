"""Shards of random rows for the tests of the feature cache."""

import hashlib
from pathlib import Path

import numpy as np

from sft_keras.cache.rows import Field, to_bytes
from sft_keras.data.fingerprint import DIGEST_SIZE

KEY, OTHER_KEY = "a" * 64, "b" * 64
FIELDS = (Field("float32", (2, 3)),)
ABOUT = {"backbone": "tiny", "boundary": "block1", "stored": [["float32", [2, 3]]]}


def names_of(first, count):
    """Return names of rows, uint8 [count, DIGEST_SIZE], which depend only on the row number."""
    digests = [
        hashlib.sha256(str(number).encode()).digest() for number in range(first, first + count)
    ]
    return np.array([list(value[:DIGEST_SIZE]) for value in digests], np.uint8)


def random_rows(fields, count, seed=0):
    """Return arrays of random bits, including NaN, one [count, ...] per field."""
    random = np.random.default_rng(seed)
    return [
        random.integers(0, 2 if field.dtype == "bool" else 256, (count, field.size), np.uint8)
        .view(field.dtype)
        .reshape(count, *field.shape)
        for field in fields
    ]


def written(store, first=0, count=5, key=KEY, fields=FIELDS):
    """Write a shard and return its folder."""
    before = set(store.shards())
    writer = store.writer(key, fields, ABOUT)
    writer.append(names_of(first, count), random_rows(fields, count, seed=first))
    writer.commit()
    (path,) = set(store.shards()) - before
    return path


def stored_bytes(collection, first=0, count=5):
    return collection.read(collection.find(names_of(first, count)))


def expected_bytes(first=0, count=5, fields=FIELDS):
    return to_bytes(random_rows(fields, count, seed=first))


def open_files():
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
