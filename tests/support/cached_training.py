"""Train a recipe step by step with and without cached features.

Both ways must give the same losses and outputs.
"""

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from sft_keras import Store
from sft_keras.cache.feature_cache import FeatureCache
from sft_keras.core.reporter import SILENT
from sft_keras.evaluation.inference import predict_batches
from sft_keras.tasks.base import build_task
from sft_keras.training.prepare import prepare_stage
from sft_keras.training.setup import build_staged


class Experiment:
    """The preprocessed data of a recipe, and a model that is built on first use."""

    def __init__(self, recipe):
        self.recipe = recipe
        splits = build_task(recipe).open_data(0)
        self.info = splits.info
        self.task = build_task(recipe, splits.info)
        self.prepared = self.task.preprocessor.preprocess(splits, lambda done, total: None)

    @functools.cached_property
    def staged(self):
        keras.utils.set_random_seed(0)
        backbone = build_task(self.recipe).build_backbone()
        return build_staged(self.recipe, backbone, self.info)

    def feature_cache(self):
        return FeatureCache(self.staged, self.recipe, self.prepared, self.info, reporter=SILENT)


def losses_and_outputs(recipe, cache, steps=3):
    """Return the loss of each step of the last stage, and the outputs for the test split."""
    experiment = Experiment(dataclasses.replace(recipe, cache=cache))
    stage, task = recipe.stages[-1], experiment.task
    source = experiment.feature_cache().input_of(stage)
    assert source.from_boundary == (cache != "off")
    model = prepare_stage(
        experiment.staged,
        stage,
        steps,
        task.objective.loss(stage),
        task.objective.metrics(),
        source.from_boundary,
    )
    batches = task.batches.training(source.prepared["train"], stage)
    losses = [model.train_on_batch(*batch)[0] for batch in batches.take(steps)]
    test = task.batches.evaluation(experiment.prepared["test"])
    return losses, predict_batches(experiment.staged.model, test)


def cached_views(recipe, folder, views=2):
    """Return the training split without and with cached augmented views, and the cache's story."""
    plan = dataclasses.replace(
        recipe, cache="disk", store=Store(views=views, folder=str(folder)), stages=recipe.stages[:1]
    )
    experiment = Experiment(plan)
    source = experiment.feature_cache().input_of(plan.stages[0])
    return experiment.prepared["train"], source.prepared["train"], source.story


def assert_views_keep_their_targets(plain, stored, views=2):
    """Assert that each view of an example has the targets of that example."""
    rows = tf.range(views * len(plain.examples))
    expected = plain.targets.take(rows % len(plain.examples)).numpy()
    assert len(np.unique(expected, axis=0)) > 2
    np.testing.assert_array_equal(stored.features.take(rows)["target"], expected)
