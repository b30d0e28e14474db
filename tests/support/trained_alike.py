"""Trains a recipe step by step on raw texts or on what its frozen blocks gave."""

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from sft_keras import Store
from sft_keras.cache.feature_cache import FeatureCache
from sft_keras.core.reporter import SILENT
from sft_keras.evaluation.inference import predict_batches
from sft_keras.training.prepare import prepare_stage
from sft_keras.training.setup import build_staged


class Opened:
    """The data of a recipe, prepared, and a new model on it, made when it is asked for."""

    def __init__(self, recipe):
        self.recipe = recipe
        splits = recipe.task.open_data(recipe, seed=0)
        self.info = splits.info
        self.prepared = recipe.task.preprocess(splits, recipe, lambda done, total: None)

    @functools.cached_property
    def staged(self):
        """The model."""
        keras.utils.set_random_seed(0)
        backbone = self.recipe.task.build_backbone(self.recipe)
        return build_staged(self.recipe, backbone, self.info)

    def store(self):
        """Returns what provides stages with stored rows."""
        return FeatureCache(self.staged, self.recipe, self.prepared, self.info, reporter=SILENT)


def losses_and_answers(recipe, cache, steps=3):
    """Returns the loss of each step of the last stage, and the answers to the test split."""
    opened = Opened(dataclasses.replace(recipe, cache=cache))
    stage, task = recipe.stages[-1], recipe.task
    source = opened.store().input_of(stage)
    assert source.from_boundary == (cache != "off")
    model = prepare_stage(
        opened.staged, stage, steps, task.loss(stage), task.training_metrics(), source.from_boundary
    )
    batches = task.training_batches(source.prepared["train"], opened.recipe, stage, opened.info)
    losses = [model.train_on_batch(*batch)[0] for batch in batches.take(steps)]
    test = task.evaluation_batches(opened.prepared["test"], opened.recipe, opened.info)
    return losses, predict_batches(opened.staged.model, test)


def stored_views(recipe, folder, views=2):
    """Returns the prepared training split, and it again with stored views for features."""
    plan = dataclasses.replace(
        recipe, cache="disk", store=Store(views=views, folder=str(folder)), stages=recipe.stages[:1]
    )
    opened = Opened(plan)
    source = opened.store().input_of(plan.stages[0])
    return opened.prepared["train"], source.prepared["train"], source.story


def require_views_have_their_targets(plain, stored, views=2):
    """Checks that each view of an example has the y of the example."""
    rows = tf.range(views * len(plain.examples))
    expected = plain.targets.take(rows % len(plain.examples)).numpy()
    assert len(np.unique(expected, axis=0)) > 2
    np.testing.assert_array_equal(stored.features.take(rows)["target"], expected)
