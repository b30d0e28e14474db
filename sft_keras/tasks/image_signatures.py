"""Signatures of image classifiers, preprocessing included."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from sft_keras.data.batches import ordered_batches
from sft_keras.data.prepared import Prepared
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.vision.decode import Fit, read_pixels, resize_image
from sft_keras.vision.transparency import Background

ENCODED = "serving_default"
FLOATS = "images"


def image_signatures(
    model: keras.Model, class_names: Sequence[str], fit: Fit, background: Background = "white"
) -> ServingSignatures:
    """Return the signatures of an image classifier.

    "serving_default" takes encoded images (JPEG, PNG, GIF, BMP or WebP bytes), string [batch].
    "images" takes RGB pixels in 0..255, float32 [batch, height, width, 3], of any size. Both decode
    and resize as in training.

    Args:
      model: From pixels to class probabilities, [batch, num_classes].
      class_names: Class names in the order of the columns.
      fit: How images are resized, see `ImageClassification.fit`.
      background: The colour behind transparent pixels of encoded images.

    Returns:
      The two signatures. Their outputs are
      label: string [batch], the most probable class;
      probabilities: float32 [batch, num_classes];
      class_names: string [batch, num_classes], the names of the columns.
    """
    height, width = model.input_shape[1:3]

    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        # Created inside the traced function: a captured eager tensor could not be saved.
        names = tf.constant(list(class_names))
        probabilities = model(tf.cast(images, tf.float32), training=False)
        shape = [tf.shape(probabilities)[0], 1]
        return {
            "label": tf.gather(names, tf.argmax(probabilities, axis=1)),
            "probabilities": probabilities,
            "class_names": tf.tile(names[tf.newaxis], shape),
        }

    def resized(images: tf.Tensor, preprocess: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        pixels = tf.TensorSpec((height, width, 3), tf.uint8)
        return tf.map_fn(preprocess, images, fn_output_signature=pixels)

    def from_encoded(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return predict(
            resized(image_bytes, lambda image: read_pixels(image, (height, width), fit, background))
        )

    def from_floats(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return predict(resized(images, lambda image: resize_image(image, (height, width), fit)))

    encoded = tf.TensorSpec([None], tf.string, name="image_bytes")
    floats = tf.TensorSpec([None, None, None, 3], tf.float32, name="images")
    served = {ENCODED: (from_encoded, [encoded]), FLOATS: (from_floats, [floats])}
    return ServingSignatures(served, class_names=class_names)


def image_samples(prepared: Prepared, limit: int) -> dict[str, dict[str, np.ndarray]]:
    """Return the first `limit` examples of a split as inputs of both signatures.

    Encoded images are the unchanged bytes of the files; arrays are encoded as PNG, which is
    lossless. Float images must have one size to form a batch, so they are the resized ones that
    training sees.

    Returns:
      {signature: {argument: [limit or fewer, ...]}}.
    """
    raw = [example["image"] for example in itertools.islice(prepared.examples.stream(None), limit)]
    encoded = [image if image.dtype == tf.string else tf.io.encode_png(image) for image in raw]
    pixels = np.stack(list(itertools.islice(prepared_pixels(prepared), limit)))
    return {
        ENCODED: {"image_bytes": np.array([image.numpy() for image in encoded], dtype=object)},
        FLOATS: {"images": pixels.astype(np.float32)},
    }


def prepared_pixels(prepared: Prepared) -> Iterator[np.ndarray]:
    """Yield the resized images of a split in stored order, uint8 [height, width, 3]."""
    for batch in ordered_batches(prepared, batch_size=32):
        yield from batch["input"].numpy()
