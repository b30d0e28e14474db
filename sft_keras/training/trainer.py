"""Train every stage of a recipe on cached features and evaluate it on the validation split."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.cache.disk import TRUNCATED
from sft_keras.cache.feature_cache import FeatureCache, StageInput
from sft_keras.cache.memory import MemoryStore
from sft_keras.core.errors import DataError, LossError
from sft_keras.core.snapshot import plain
from sft_keras.data.examples import SPLITS
from sft_keras.evaluation.output_monitors import OutputMonitor
from sft_keras.recipe.stage import Stage, stage_length
from sft_keras.training.checkpointer import Checkpointer
from sft_keras.training.eta import EtaEstimator
from sft_keras.training.experiment import Experiment
from sft_keras.training.lr_finder import range_test
from sft_keras.training.stage_plan import StagePlan
from sft_keras.training.stage_runner import StageResult, run_stage


def train_stages(
    experiment: Experiment,
    *,
    memory: MemoryStore | None = None,
    scores_test: bool = False,
    checkpointer: Checkpointer | None = None,
) -> list[dict[str, Any]]:
    """Train the stages of a recipe in order and return their results as plain values.

    Args:
      experiment: Recipe, model, data, run folder and devices. The model is trained in place.
      memory: A store for cached features that outlives this call, see `FeatureCache`.
      scores_test: Whether the last stage is evaluated on the test split too.
      checkpointer: Writes checkpoints, and holds the one to resume from; None to train without.

    Returns:
      One dict per stage: the fields of `StageResult`, metrics of "validation" and "test", the
      calibration "temperature", "rate_test", "frozen_blocks" and "frozen_pass".

    Raises:
      KeyboardInterrupt: If the run is to stop; a checkpoint is written.
      LossError: If a loss became NaN or infinite; the best weights so far are in the run folder.
      DataError: If features cached on disk were damaged while they were read.
    """
    splits = SPLITS if scores_test else ("train", "validation")
    cache = FeatureCache(
        experiment.staged,
        experiment.recipe,
        experiment.prepared,
        experiment.info,
        reporter=experiment.run,
        splits=splits,
        memory=memory,
        devices=experiment.devices,
    )
    try:
        return Trainer(experiment, cache, scores_test, checkpointer).train()
    except tf.errors.UnknownError as error:
        if TRUNCATED not in str(error):
            raise
        raise DataError(
            "Features cached on disk were truncated or overwritten while training read them. "
            "Run again: damaged features are detected and computed anew."
        ) from error
    finally:
        cache.close()


class Trainer:
    """Trains and evaluates the stages of an experiment, one after the other."""

    def __init__(
        self,
        experiment: Experiment,
        cache: FeatureCache,
        scores_test: bool = False,
        checkpointer: Checkpointer | None = None,
    ) -> None:
        """Build the trainer; see `train_stages` for the arguments."""
        self._experiment, self._cache = experiment, cache
        self._scores_test, self._checkpointer = scores_test, checkpointer
        self._eta = EtaEstimator(experiment.staged, experiment.recipe, experiment.info)
        self._results: list[dict[str, Any]] = []

    def train(self) -> list[dict[str, Any]]:
        """Train the stages, or those left of a resumed run, and return the results of all."""
        if self._checkpointer is not None:
            self._results = self._checkpointer.restore_run()
        for stage in self._experiment.recipe.stages[len(self._results) :]:
            self._train_and_evaluate(stage)
        return self._results

    def _train_and_evaluate(self, stage: Stage) -> None:
        experiment, run, checkpointer = self._experiment, self._experiment.run, self._checkpointer
        source = self._cache.input_of(stage)
        self._eta.begin_stage(stage, source)
        run.line(f"{stage.name}  frozen blocks: {source.story}")
        experiment.devices.require_same(f"way to read stage {stage.name!r}", source.fingerprint)
        resolved, rate_test = self._resolve_learning_rate(stage, source)
        if checkpointer is not None:
            checkpointer.facts = {"results": self._results, "rate_test": rate_test}
        result = self._run_stage(resolved, source)
        self._cache.drop_after(stage)
        evaluation = self._evaluate(resolved, source)
        summary = experiment.task.evaluator.summary(evaluation["validation"])
        run.line(f"{result.summary()}; validation {summary}")
        story = {
            "rate_test": rate_test,
            "frozen_blocks": source.story,
            "frozen_pass": source.frozen_pass,
        }
        self._results.append(plain({**result.as_json(), **evaluation, **story}))
        run.write_json("history.json", {each["name"]: each["history"] for each in self._results})
        if checkpointer is not None:
            checkpointer.facts = {"results": self._results, "rate_test": None}
            checkpointer.end_stage()

    def _resolve_learning_rate(
        self, stage: Stage, source: StageInput
    ) -> tuple[Stage, dict[str, Any] | None]:
        """Return the stage with a numeric learning rate, and the range test that found it.

        A resumed stage takes the rate from its checkpoint. With several workers only the chief runs
        the test, since each would draw other dropout masks, and sends the rate to the others.
        """
        resumed = None if self._checkpointer is None else self._checkpointer.resumed_rate_test()
        if resumed is not None:
            return dataclasses.replace(stage, learning_rate=resumed["chosen"]), resumed
        if stage.learning_rate != "auto":
            return stage, None
        experiment = self._experiment
        if not experiment.devices.is_chief:
            (rate,) = experiment.devices.sum_over_workers([np.float64(0.0)])
            return dataclasses.replace(stage, learning_rate=float(rate)), {"chosen": float(rate)}
        with experiment.adapters(stage):
            test = range_test(
                experiment.staged,
                stage,
                loss=experiment.task.objective.loss(stage),
                training=experiment.training_batches(stage, source),
                from_boundary=source.from_boundary,
                reporter=experiment.run,
            )
        experiment.devices.sum_over_workers(
            [np.float64(test.chosen)]
        )  # sends it to the other workers
        experiment.run.line(
            f"{stage.name}  learning rate {test.chosen:.2g}, by a range test: {test.rule}"
        )
        return dataclasses.replace(stage, learning_rate=test.chosen), test.as_json()

    def _run_stage(self, stage: Stage, source: StageInput) -> StageResult:
        """Train a stage with its adapters attached, from its start or from a checkpoint.

        Raises:
          LossError: With the path of the best weights so far, which are saved.
        """
        experiment, run = self._experiment, self._experiment.run
        try:
            with contextlib.ExitStack() as adapters:
                with experiment.devices.scope():
                    adapters.enter_context(experiment.adapters(stage))
                    metrics = experiment.task.objective.metrics()
                    monitors = experiment.task.objective.output_monitors()
                plan = self._plan(stage, source, metrics, monitors)
                return run_stage(
                    experiment.staged, plan, run, self._checkpointer, experiment.devices
                )
        except LossError as error:  # once the adapters are merged, so that the model can be saved
            path = run.file("last_good.keras")
            experiment.staged.model.save(path)
            raise LossError(f"{error} The best weights so far are in {path}.") from error

    def _plan(
        self,
        stage: Stage,
        source: StageInput,
        metrics: Sequence[keras.metrics.Metric],
        output_monitors: Sequence[OutputMonitor],
    ) -> StagePlan:
        experiment = self._experiment
        recipe, task = experiment.recipe, experiment.task
        examples = len(source.prepared["train"].examples)
        return StagePlan(
            stage,
            stage_length(stage, examples, recipe.data.batch_size),
            monitor=recipe.task.monitors()[stage.monitor],
            loss=task.objective.loss(stage),
            metrics=metrics,
            training=functools.partial(experiment.training_batches, stage, source),
            validation=experiment.evaluation_batches(source, "validation"),
            from_boundary=source.from_boundary,
            validates_start=recipe.number_of(stage) > 0 or task.config.evaluates_before_training,
            output_monitors=output_monitors,
            steps_before=sum(result["steps"] for result in self._results),
            time_left=functools.partial(self._eta.describe, stage),
        )

    def _evaluate(self, stage: Stage, source: StageInput) -> dict[str, Any]:
        """Evaluate a trained stage.

        Returns:
          {"validation": metrics, "test": metrics or None, "temperature": of the calibration}.
        """
        experiment, evaluator = self._experiment, self._experiment.task.evaluator
        model = experiment.staged.inference_model(stage.unfreeze, source.from_boundary)
        is_last = experiment.recipe.number_of(stage) == len(experiment.recipe.stages) - 1
        evaluation: dict[str, Any] = dict.fromkeys(("validation", "test", "temperature"))
        for split in ("validation", "test") if self._scores_test and is_last else ("validation",):
            prepared = source.prepared[split]
            batches = experiment.evaluation_batches(source, split)
            outputs = evaluator.predict(model, batches, experiment.devices)
            evaluation[split] = evaluator.evaluate(outputs, prepared)
            if split == "validation":
                evaluation["temperature"] = evaluator.temperature(outputs, prepared)
        return evaluation
