"""The plain Keras script that staged runs are compared with.

It follows https://keras.io/guides/transfer_learning: a pretrained network with `trainable = False`,
a new head, `compile`, `fit`; then unfreeze the top block, `compile` with a low learning rate,
`fit`. It differs from the guide only to make the comparison exact, or to be faster:

- BatchNormalization layers of the unfrozen block are frozen individually. `base(x, training=False)`
  does not keep their statistics in a Functional model: `fit` passes training=True through it.
- No dropout; the initial head and the order of the images are fixed.
- Decoded images stay in memory and batches are gathered by index, which costs less than
  `cache().shuffle().batch()`. All epochs of a stage are one dataset, because on few cores creating
  an iterator per epoch makes some epochs slow.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from image_experiments import NUM_CLASSES, Files, ImageExperiment

from sft_keras import Stage


def plain(experiment: ImageExperiment, folder: Path) -> dict[str, Any]:
    """Run the script and return its seconds, in total and per part, and each stage's history."""
    files = Files(folder)
    orders = {stage.name: np.load(files.order(stage)) for stage in experiment.stages}
    clock = time.perf_counter
    start = clock()
    images, labels = load_split(experiment, files, "train")
    validation = stored_order_batches(
        *load_split(experiment, files, "validation"), experiment.batch_size
    )
    read = clock()
    model, base = build(experiment, files)
    built = clock()
    histories, trainable, seconds = {}, {}, {}
    for stage in experiment.stages:
        stage_start = clock()
        set_trainable(base, experiment, stage)
        model.compile(
            optimizer=keras.optimizers.Adam(stage.learning_rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        training = fixed_order_batches(images, labels, orders[stage.name], experiment.batch_size)
        fitted = model.fit(
            training,
            epochs=stage.epochs,
            steps_per_epoch=-(-len(labels) // experiment.batch_size),
            # Validation after the last epoch evaluates the final model; no `evaluate` follows.
            validation_data=validation,
            verbose=0,
        )
        histories[stage.name] = fitted.history
        trainable[stage.name] = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        seconds[stage.name] = clock() - stage_start
    return {
        "seconds": clock() - start,
        "parts": {"data": read - start, "build": built - read, **seconds},
        "histories": histories,
        "trainable_parameters": trainable,
    }


def build(experiment: ImageExperiment, files: Files) -> tuple[keras.Model, keras.Model]:
    """Return the model, from images in 0 to 255 to logits, and the backbone within it."""
    base = experiment.network(
        include_top=False,
        weights=files.weights(experiment),
        input_shape=experiment.shape,
        **experiment.arguments,
    )
    inputs = keras.Input(experiment.shape)
    x = experiment.preprocess_input(inputs)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    dense = keras.layers.Dense(NUM_CLASSES)
    model = keras.Model(inputs, dense(x))
    dense.kernel.assign(np.load(files.kernel))
    return model, base


def set_trainable(base: keras.Model, experiment: ImageExperiment, stage: Stage) -> None:
    """Freeze the backbone except the unfrozen top block; always freeze BatchNormalization."""
    if not stage.unfreeze:
        base.trainable = False
        return
    base.trainable = True
    for layer in base.layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = layer.name.startswith(experiment.top) and not is_norm


def load_split(
    experiment: ImageExperiment, files: Files, split: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the decoded images of a split, uint8 [n, height, width, 3], and its labels, [n]."""
    if experiment.images:
        images, labels = np.load(files.images(split)), np.load(files.labels(split))
        return tf.constant(images), tf.constant(labels)
    return load_flowers(np.load(files.positions(split)), experiment.image_size)


def load_flowers(positions: np.ndarray, image_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the photos at `positions` of tf_flowers, resized, and their labels."""
    photos = tfds.load(
        "tf_flowers",
        split="train",
        download=False,
        decoders={"image": tfds.decode.SkipDecoding()},  # decode only the chosen photos
        read_config=tfds.ReadConfig(interleave_cycle_length=1),  # in stored order
    )
    is_chosen = np.zeros(len(photos), bool)
    is_chosen[positions] = True
    flagged = tf.data.Dataset.zip(photos, tf.data.Dataset.from_tensor_slices(is_chosen))

    def decode(photo: dict[str, tf.Tensor], _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_jpeg(photo["image"], channels=3)
        image = tf.image.resize(image, (image_size, image_size), antialias=True)
        return tf.cast(tf.round(image), tf.uint8), photo["label"]

    chosen = flagged.filter(lambda _, chosen: chosen)
    decoded = chosen.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    return decoded.batch(len(positions)).get_single_element()


def fixed_order_batches(
    images: tf.Tensor, labels: tf.Tensor, orders: np.ndarray, batch_size: int
) -> tf.data.Dataset:
    """Return the batches of all epochs in sequence; `orders` is [epochs, n], one row per epoch."""
    epochs = tf.data.Dataset.from_tensor_slices(orders)
    chosen = epochs.flat_map(
        lambda order: tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
    )
    batches = chosen.map(lambda index: (tf.gather(images, index), tf.gather(labels, index)))
    return batches.prefetch(tf.data.AUTOTUNE)


def stored_order_batches(images: tf.Tensor, labels: tf.Tensor, batch_size: int) -> tf.data.Dataset:
    """Return the batches of a split in stored order."""
    pairs = tf.data.Dataset.from_tensor_slices((images, labels))
    return pairs.batch(batch_size).cache().prefetch(tf.data.AUTOTUNE)
