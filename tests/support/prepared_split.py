"""Prepared splits in memory."""

import numpy as np
import tensorflow as tf

from sft_keras.data.examples import Examples
from sft_keras.data.features import InMemoryFeatures
from sft_keras.data.fingerprint import DIGEST_SIZE, digest
from sft_keras.data.prepared import Prepared


def held_split(images, labels, name="train") -> Prepared:
    """Return images, uint8 [n, height, width, 3], and labels, [n], as a prepared split."""

    def stream(seed):
        raise AssertionError("examples in memory must not be read from the source")

    labels = np.asarray(labels, np.int32)
    examples = Examples(name, tuple(f"{name}[{i}]" for i in range(len(labels))), labels, stream)
    digests = [np.frombuffer(digest(np.asarray(image)), np.uint8) for image in images]
    return Prepared(
        examples=examples,
        features=InMemoryFeatures(tf.constant(images, tf.uint8)),
        read=lambda raw: raw["image"],
        digests=np.reshape(digests, (-1, DIGEST_SIZE)),
    )


def coloured_splits(sizes):
    """Return {name: prepared split} of noisy images of 3 colours, uint8 [size, 16, 16, 3]."""
    random = np.random.default_rng(0)
    splits = {}
    for name, size in sizes.items():
        labels = np.arange(size) % 3
        images = random.integers(0, 100, (size, 16, 16, 3))
        images[np.arange(size), :, :, labels] += 150
        splits[name] = held_split(images.astype(np.uint8), labels, name)
    return splits
