"""What tasks whose examples have a label of any kind have in common. Does not import TensorFlow."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from sft_keras.tasks.base import Task

if TYPE_CHECKING:
    import tensorflow as tf

    from sft_keras.data.examples import DataInfo
    from sft_keras.data.labelled_batches import Augmentation, Weighing
    from sft_keras.data.prepared import Prepared
    from sft_keras.recipe import Recipe, Stage


class Labelled(Task):
    """Each example has one y: its targets, or where `prepare` gives none its one-hot label."""

    @abc.abstractmethod
    def augmentation(self, recipe: Recipe) -> Augmentation | None:
        """Returns how training batches are changed at random; None for not."""

    @abc.abstractmethod
    def weighing(self, stage: Stage, info: DataInfo) -> Weighing:
        """Returns how much each example of a training batch counts."""

    def validation_weighing(self, info: DataInfo) -> Weighing | None:
        """Returns how much each example of a split counts that is evaluated; None for the same."""
        return None

    def training_batches(
        self,
        prepared: Prepared,
        recipe: Recipe,
        stage: Stage,
        info: DataInfo,
        taken: int = 0,
    ) -> tf.data.Dataset:
        """See `Task.training_batches`."""
        from sft_keras.data.labelled_batches import labelled_training_batches

        return labelled_training_batches(
            prepared,
            augmented=self.augmentation(recipe),
            weigh=self.weighing(stage, info),
            recipe=recipe,
            stage=stage,
            info=info,
            taken=taken,
        )

    def augmented_views(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo, views: int
    ) -> tf.data.Dataset:
        """See `Task.augmented_views`."""
        from sft_keras.data.labelled_batches import augmented_views

        augmented = self.augmentation(recipe)
        return augmented_views(prepared, augmented=augmented, recipe=recipe, info=info, views=views)

    def evaluation_batches(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo
    ) -> tf.data.Dataset:
        """See `Task.evaluation_batches`."""
        from sft_keras.data.labelled_batches import labelled_batches

        return labelled_batches(
            prepared,
            recipe=recipe,
            num_classes=info.num_classes,
            weigh=self.validation_weighing(info),
        )
