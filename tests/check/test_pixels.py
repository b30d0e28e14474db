"""Findings from the pixels that a model reads."""

import io

import numpy as np
from PIL import Image
from prepared_split import held_split

from sft_keras.check.image_files import image_file_findings
from sft_keras.check.pixels import one_colour_findings
from sft_keras.data.examples import Examples
from sft_keras.data.streams import random_access_part


def test_images_of_one_colour_are_named_with_their_colour():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (70, 6, 5, 3)).astype(np.uint8)
    images[3] = (255, 0, 10)
    images[66] = 128
    images[66, 0, 0] = 130  # what JPEG makes of one colour
    images[69, :, :, 1:] = 7  # varies in red only
    prepared = {"train": held_split(images, np.arange(70) % 2)}
    (finding,) = one_colour_findings(prepared)
    found = [(example.id, example.note) for (example,) in finding.groups]
    ids = prepared["train"].examples.ids
    assert found == [(ids[3], "colour 255, 0, 10"), (ids[66], "colour 130, 130, 130")]
    assert one_colour_findings({"train": held_split(images[:3], np.arange(3) % 2)}) == []


def test_sets_that_are_mostly_transparent_are_named():
    import tensorflow as tf

    def encoded(mode):
        file = io.BytesIO()
        Image.new(mode, (64, 64)).save(file, "PNG")
        return file.getvalue()

    def kinds(modes):
        files = tf.constant([encoded(mode) for mode in modes])
        labels = np.zeros(len(modes), np.int64)
        ids = [f"{number}" for number in range(len(modes))]
        part = random_access_part(ids, labels, lambda position: files[position])
        positions = np.arange(len(modes))
        examples = Examples("train", part.ids, labels, lambda seed: part.stream(positions, seed))
        findings = image_file_findings({"train": examples}, (64, 64), lambda done, total: None)
        return [(finding.kind, finding.count) for finding in findings]

    assert kinds(["RGBA", "RGBA", "RGB"]) == [("mostly transparent images", 2)]
    assert kinds(["RGB", "RGB", "RGB"]) == []
