"""What the staged benchmark trains on images, and the files that both sides start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras import Arrays, Backbone, Data, Recipe, Stage
from sft_keras.data.batches import epoch_seed
from sft_keras.data.examples import SPLITS
from sft_keras.data.streams import shuffled_range
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.models.heads import LOGITS
from sft_keras.models.staged import StagedModel
from sft_keras.tasks import ImageClassification
from sft_keras.training.setup import build_staged, open_backbone_and_data
from sft_keras.vision.sources.open import list_source

NUM_CLASSES = 5
SEED = 0
LEARNING_RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2)  # of the sweep
_TEST_IMAGES = 5  # our side wants a test split; one image a class, which costs it next to nothing
_TINY = {"train": 40, "validation": 15}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageExperiment:
    """A network, its stages and its images.

    Attributes:
      network: Its constructor in keras.applications.
      preset: What a recipe calls it.
      preprocess_input: Its scaling in keras.applications.
      top: What the names of the layers of its top block start with.
      image_size: Height and width in pixels.
      stages: The head, and the top block if there is a second.
      images: Random images per split, made here; None for the photos of tf_flowers.
      shares: Of tf_flowers, for "validation" and "test".
      weights: "imagenet" or a file's path; None for random weights, made here.
      arguments: Further arguments of `network`.
      batch_size: Images a step.
    """

    network: Callable[..., keras.Model]
    preset: str
    preprocess_input: Callable[[Any], Any]
    top: tuple[str, ...]
    image_size: int
    stages: tuple[Stage, ...]
    images: Mapping[str, int] | None = None
    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)
    weights: str | None = None
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    batch_size: int = 32

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image."""
        return self.image_size, self.image_size, 3

    def tiny(self) -> ImageExperiment:
        """Returns the experiment on a few images and in two epochs a stage, to try the program."""
        return dataclasses.replace(
            self,
            images=self.images and _TINY,
            shares={"validation": 0.02, "test": 0.94},
            stages=tuple(dataclasses.replace(stage, epochs=2) for stage in self.stages),
        )


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of an experiment, in a folder that `prepare` fills.

    Both sides begin with the same weights and the same head and see the same images in the same
    order, so that their losses can be compared epoch by epoch.
    """

    folder: Path

    def images(self, split: str) -> Path:
        """Random images, uint8 [n, height, width, 3] in 0..255."""
        return self.folder / f"{split}_images.npy"

    def labels(self, split: str) -> Path:
        """Their classes, int64 [n]."""
        return self.folder / f"{split}_labels.npy"

    def positions(self, split: str) -> Path:
        """Where the photos of a split lie among all of tf_flowers, int64 [n], ascending."""
        return self.folder / f"{split}_positions.npy"

    def order(self, stage: Stage) -> Path:
        """The order of the training images in each epoch of a stage, int64 [epochs, n]."""
        return self.folder / f"{stage.name}_order.npy"

    @property
    def kernel(self) -> Path:
        """The head's first kernel, float32 [channels, classes]; its bias starts at zero."""
        return self.folder / "head_kernel.npy"

    def weights(self, experiment: ImageExperiment) -> str:
        """The backbone's weights, as keras.applications and `Backbone.weights` both take them."""
        return experiment.weights or str(self.folder / "backbone.weights.h5")


def prepare(experiment: ImageExperiment, folder: Path) -> None:
    """Writes all that both sides start from."""
    files = Files(folder)
    if experiment.images:
        _write_random_images(experiment, files)
    if experiment.weights is None:
        keras.utils.set_random_seed(SEED)
        network = experiment.network(
            include_top=False, weights=None, input_shape=experiment.shape, **experiment.arguments
        )
        network.save_weights(files.weights(experiment))
    recipe = recipe_of(experiment, files)
    with configured_keras(recipe):
        backbone, splits = open_backbone_and_data(recipe)
        staged = build_staged(recipe, backbone, splits.info)
    np.save(files.kernel, head_kernel(staged).numpy())
    for index, stage in enumerate(recipe.stages):
        # int64, as the data set that counts the epochs has it: another type gives another seed.
        epochs = tf.range(stage.epochs, dtype=tf.int64)
        seeds = [epoch_seed(recipe.seed, index, epoch) for epoch in epochs]
        order = [shuffled_range(len(splits.train), seed).numpy() for seed in seeds]
        np.save(files.order(stage), np.stack(order))
    if not experiment.images:
        everything = list_source(recipe.data, recipe.seed).parts["train"].ids
        place = {name: position for position, name in enumerate(everything)}
        for split in (splits.train, splits.validation):
            np.save(files.positions(split.name), [place[name] for name in split.ids])


def recipe_of(experiment: ImageExperiment, files: Files) -> Recipe:
    """Returns the experiment as a recipe; reads the random images, if it has such."""
    side = experiment.image_size
    return Recipe(
        # Dropout is drawn differently on the two sides, and losses could not be compared.
        task=ImageClassification(dropout=0.0),
        data=Data(
            source=_random_arrays(files) if experiment.images else "tfds:tf_flowers",
            batch_size=experiment.batch_size,
            **experiment.shares,
        ),
        backbone=Backbone(
            preset=f"keras:{experiment.preset}",
            weights=files.weights(experiment),
            image_size=(side, side),
            arguments=experiment.arguments,
        ),
        stages=experiment.stages,
        seed=SEED,
    )


def head_kernel(staged: StagedModel) -> tf.Variable:
    """Returns the kernel of the head's one layer that has any."""
    return staged.head.get_layer(LOGITS).kernel


def _random_arrays(files: Files) -> Arrays:
    pairs = [(np.load(files.images(name)), np.load(files.labels(name))) for name in SPLITS]
    return Arrays(*pairs)


def _write_random_images(experiment: ImageExperiment, files: Files) -> None:
    """Writes noise around a colour of the class' own, so that there is something to learn."""
    draw = np.random.default_rng(SEED)
    colours = draw.integers(40, 216, (NUM_CLASSES, 3))
    for split, count in {**experiment.images, "test": _TEST_IMAGES}.items():
        labels = np.arange(count) % NUM_CLASSES
        noise = draw.normal(0.0, 60.0, (count, *experiment.shape))
        images = np.clip(colours[labels][:, None, None, :] + noise, 0, 255).astype(np.uint8)
        np.save(files.images(split), images)
        np.save(files.labels(split), labels)
