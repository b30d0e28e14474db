"""Image experiments of the staged benchmark, and the files that both sides start from."""

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
LEARNING_RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2)  # sweep
_TEST_IMAGES = 5  # our side needs a test split; one image per class costs next to nothing
_TINY = {"train": 40, "validation": 15}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageExperiment:
    """A network, its stages and its training images.

    Attributes:
      network: Constructor in keras.applications.
      preset: Preset name in a recipe, without "keras:".
      preprocess_input: Matching preprocessing function of keras.applications.
      top: Prefixes of the layer names of the top block.
      image_size: Height and width in pixels.
      stages: The head stage, optionally followed by the top-block stage.
      images: Number of random images per split, generated here; None to use tf_flowers.
      shares: Fractions of tf_flowers for "validation" and "test".
      weights: "imagenet" or the path of a weights file; None for random weights, generated here.
      arguments: Further keyword arguments of `network`.
      batch_size: Images per step.
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
        """Image shape, (height, width, channels)."""
        return self.image_size, self.image_size, 3

    def tiny(self) -> ImageExperiment:
        """Return the experiment on a few images with two epochs per stage, for a trial run."""
        return dataclasses.replace(
            self,
            images=self.images and _TINY,
            shares={"validation": 0.02, "test": 0.94},
            stages=tuple(dataclasses.replace(stage, epochs=2) for stage in self.stages),
        )


@dataclasses.dataclass(frozen=True)
class Files:
    """Paths of the files of an experiment, written by `prepare`.

    Both sides start from the same backbone weights and the same head and see the same images in the
    same order, so that their losses can be compared epoch by epoch.
    """

    folder: Path

    def images(self, split: str) -> Path:
        """Path of the random images, uint8 [n, height, width, 3], 0 to 255."""
        return self.folder / f"{split}_images.npy"

    def labels(self, split: str) -> Path:
        """Path of their class indices, int64 [n]."""
        return self.folder / f"{split}_labels.npy"

    def positions(self, split: str) -> Path:
        """Path of the positions of a split's photos in tf_flowers, int64 [n], ascending."""
        return self.folder / f"{split}_positions.npy"

    def order(self, stage: Stage) -> Path:
        """Path of the order of the training images per epoch of a stage, int64 [epochs, n]."""
        return self.folder / f"{stage.name}_order.npy"

    @property
    def kernel(self) -> Path:
        """Path of the head's initial kernel, float32 [channels, classes]; its bias starts at 0."""
        return self.folder / "head_kernel.npy"

    def weights(self, experiment: ImageExperiment) -> str:
        """Return the backbone weights as accepted by keras.applications and `Backbone.weights`."""
        return experiment.weights or str(self.folder / "backbone.weights.h5")


def prepare(experiment: ImageExperiment, folder: Path) -> None:
    """Write the files that both sides start from."""
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
        # int64 like the dataset that counts the epochs: another dtype would give other seeds.
        epochs = tf.range(stage.epochs, dtype=tf.int64)
        seeds = [epoch_seed(recipe.seed, index, epoch) for epoch in epochs]
        order = [shuffled_range(len(splits.train), seed).numpy() for seed in seeds]
        np.save(files.order(stage), np.stack(order))
    if not experiment.images:
        all_ids = list_source(recipe.data, recipe.seed).parts["train"].ids
        position_of = {name: position for position, name in enumerate(all_ids)}
        for split in (splits.train, splits.validation):
            np.save(files.positions(split.name), [position_of[name] for name in split.ids])


def recipe_of(experiment: ImageExperiment, files: Files) -> Recipe:
    """Return the recipe of the experiment, which holds the random images if it has any."""
    side = experiment.image_size
    return Recipe(
        # The two sides draw different dropout masks, so losses would not be comparable.
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
    """Return the kernel of the head's only dense layer."""
    return staged.head.get_layer(LOGITS).kernel


def _random_arrays(files: Files) -> Arrays:
    pairs = [(np.load(files.images(name)), np.load(files.labels(name))) for name in SPLITS]
    return Arrays(*pairs)


def _write_random_images(experiment: ImageExperiment, files: Files) -> None:
    """Write noise around one colour per class, so that the classes can be learned."""
    rng = np.random.default_rng(SEED)
    colours = rng.integers(40, 216, (NUM_CLASSES, 3))
    for split, count in {**experiment.images, "test": _TEST_IMAGES}.items():
        labels = np.arange(count) % NUM_CLASSES
        noise = rng.normal(0.0, 60.0, (count, *experiment.shape))
        images = np.clip(colours[labels][:, None, None, :] + noise, 0, 255).astype(np.uint8)
        np.save(files.images(split), images)
        np.save(files.labels(split), labels)
