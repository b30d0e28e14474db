"""The plain Keras script that a staged run is compared with.

It is what https://keras.io/guides/transfer_learning does: a pretrained network with
`trainable = False`, a new head, `compile`, `fit`; then the top block unfrozen, `compile` with a low
learning rate, `fit`. Where it differs from the guide it is to be comparable, or faster:

- BatchNormalization layers of the unfrozen block are frozen one by one. `base(x, training=False)`
  does not keep their statistics in a Functional model: `fit` passes training=True through it.
- No dropout, given initial weights, and the images in a given order.
- The decoded images are held in memory and batches are taken from there by index, which costs less
  than `cache().shuffle().batch()`. The epochs of a stage are one dataset, since on few cores a new
  iterator for each makes some of them slow.
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
    """Runs the script; returns its seconds, their parts, and the history of each stage."""
    files = Files(folder)
    orders = {stage.name: np.load(files.order(stage)) for stage in experiment.stages}
    clock = time.perf_counter
    began = clock()
    images, labels = load_split(experiment, files, "train")
    validation = ordered(*load_split(experiment, files, "validation"), experiment.batch_size)
    read = clock()
    model, base = build(experiment, files)
    built = clock()
    histories, trainable, seconds = {}, {}, {}
    for stage in experiment.stages:
        stage_began = clock()
        set_trainable(base, experiment, stage)
        model.compile(
            optimizer=keras.optimizers.Adam(stage.learning_rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        training = in_given_order(images, labels, orders[stage.name], experiment.batch_size)
        fitted = model.fit(
            training,
            epochs=stage.epochs,
            steps_per_epoch=-(-len(labels) // experiment.batch_size),
            # The last epoch's validation is the final model's: none is needed after `fit`.
            validation_data=validation,
            verbose=0,
        )
        histories[stage.name] = fitted.history
        trainable[stage.name] = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        seconds[stage.name] = clock() - stage_began
    return {
        "seconds": clock() - began,
        "parts": {"data": read - began, "build": built - read, **seconds},
        "histories": histories,
        "trainable_parameters": trainable,
    }


def build(experiment: ImageExperiment, files: Files) -> tuple[keras.Model, keras.Model]:
    """Returns the model, from images in 0..255 to logits, and the network in it."""
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
    """Freezes the network, or all of it but the top block; BatchNormalization in any case."""
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
    """Returns (images uint8 [n, height, width, 3], labels [n]) of a split, decoded, in memory."""
    if experiment.images:
        images, labels = np.load(files.images(split)), np.load(files.labels(split))
        return tf.constant(images), tf.constant(labels)
    return load_flowers(np.load(files.positions(split)), experiment.image_size)


def load_flowers(positions: np.ndarray, image_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the photos at some positions of tf_flowers, resized, and their labels."""
    photos = tfds.load(
        "tf_flowers",
        split="train",
        download=False,
        decoders={"image": tfds.decode.SkipDecoding()},  # those of other splits need none
        read_config=tfds.ReadConfig(interleave_cycle_length=1),  # in stored order
    )
    is_chosen = np.zeros(len(photos), bool)
    is_chosen[positions] = True
    numbered = tf.data.Dataset.zip(photos, tf.data.Dataset.from_tensor_slices(is_chosen))

    def decode(photo: dict[str, tf.Tensor], _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_jpeg(photo["image"], channels=3)
        image = tf.image.resize(image, (image_size, image_size), antialias=True)
        return tf.cast(tf.round(image), tf.uint8), photo["label"]

    chosen = numbered.filter(lambda _, chosen: chosen)
    decoded = chosen.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    return decoded.batch(len(positions)).get_single_element()


def in_given_order(
    images: tf.Tensor, labels: tf.Tensor, orders: np.ndarray, batch_size: int
) -> tf.data.Dataset:
    """Returns the batches of all epochs, one after the other; `orders` has a row an epoch."""
    epochs = tf.data.Dataset.from_tensor_slices(orders)
    chosen = epochs.flat_map(
        lambda order: tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
    )
    batches = chosen.map(lambda index: (tf.gather(images, index), tf.gather(labels, index)))
    return batches.prefetch(tf.data.AUTOTUNE)


def ordered(images: tf.Tensor, labels: tf.Tensor, batch_size: int) -> tf.data.Dataset:
    """Returns the batches of a split in stored order."""
    pairs = tf.data.Dataset.from_tensor_slices((images, labels))
    return pairs.batch(batch_size).cache().prefetch(tf.data.AUTOTUNE)
