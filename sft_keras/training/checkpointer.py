"""Checkpointing while stages train: write when due, stop on request, resume within a stage."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from sft_keras.core.errors import RunFolderError
from sft_keras.core.reporter import Reporter
from sft_keras.core.snapshot import Snapshot
from sft_keras.core.timer import Timer
from sft_keras.distributed.devices import ONE_DEVICE, Devices
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.storage import Checkpointing
from sft_keras.runs.checkpoints import Checkpoints
from sft_keras.runs.interrupt import StopRequest
from sft_keras.training.audit import fingerprints
from sft_keras.training.freezing import named_variables, random_states

_WEIGHTS, _RANDOM = "weights/", "random/"


@dataclasses.dataclass(frozen=True)
class ResumedStage:
    """The state of a stage that a checkpoint was written within.

    Attributes:
      step: Batches that the stage has trained on.
      fingerprints: {path: fingerprint} of all variables before the stage.
      loop: The state of the stage's loop, see `StageLoop.restore`.
    """

    step: int
    fingerprints: Mapping[str, str]
    loop: Snapshot


class Checkpointer:
    """Collects the training state and writes a checkpoint when one is due.

    A checkpoint holds only variables that a stage has changed or is changing; the others are those
    of a newly built model, which fingerprints verify on resume.

    Attributes:
      facts: Plain values that go into every checkpoint beside the state of the stage: "results" of
        the finished stages and the "rate_test" of the current one.
    """

    # One collaborator per argument: none of them belongs to another.
    def __init__(  # noqa: PLR0913
        self,
        staged: StagedModel,
        checkpoints: Checkpoints,
        plan: Checkpointing,
        *,
        about: Mapping[str, Any],
        stop: StopRequest,
        timer: Timer,
        reporter: Reporter,
        resumed: Snapshot | None = None,
        devices: Devices = ONE_DEVICE,
    ) -> None:
        """Fingerprint the newly built model.

        Args:
          staged: The model, before `restore_run`.
          checkpoints: The run's checkpoints.
          plan: When to write one.
          about: Plain values that go into every checkpoint.
          stop: Whether a signal has asked the run to stop.
          timer: The run's timer.
          reporter: Receives a line about a checkpoint that could not be written.
          resumed: The checkpoint that the run resumes from; None for a new run.
          devices: The devices or workers; the chief writes, and all stop after the same step.

        Raises:
          RunFolderError: If `resumed` is a checkpoint of another model.
        """
        self.facts: Mapping[str, Any] = {}
        self._resumed = resumed
        self._staged, self._checkpoints, self._plan, self._about = staged, checkpoints, plan, about
        self._stop, self._timer, self._reporter = stop, timer, reporter
        self._devices = devices
        self._steps, self._written = 0, time.monotonic()
        self._initial = fingerprints(staged)
        self._before: Mapping[str, str] = {}
        self._moving: Mapping[str, keras.Variable] = {}
        if resumed is not None:
            self._require_same_model(resumed)

    def restore_run(self) -> list[dict[str, Any]]:
        """Restore the weights of the checkpoint to resume from.

        Returns:
          The results of the finished stages; empty for a new run.
        """
        if self._resumed is None:
            return []
        self._restore_variables(self._resumed)  # which later stages find frozen
        return list(self._resumed.facts["results"])

    def resumed_rate_test(self) -> dict[str, Any] | None:
        """Return the range test of the stage to resume within; None if it had none."""
        return None if self._within is None else self._within.facts["rate_test"]

    def resume_stage(self) -> ResumedStage | None:
        """Restore the variables of the stage to resume within, adapters included, and return it.

        Returns:
          None if the stage starts from its beginning, as all do after the resumed one.
        """
        if (within := self._within) is None:
            return None
        self._resumed = None
        self._restore_variables(within)
        loop = Snapshot(within.facts["within"], within.arrays)
        return ResumedStage(loop.facts["position"]["step"], dict(within.facts["before"]), loop)

    @property
    def _within(self) -> Snapshot | None:
        """The checkpoint to resume from, if it was written within a stage and not between two."""
        is_within = self._resumed is not None and self._resumed.facts["within"] is not None
        return self._resumed if is_within else None

    def _restore_variables(self, snapshot: Snapshot) -> None:
        """Assign weights and random states. Of adapters, only those now attached are assigned."""
        variables = {
            **_named(_WEIGHTS, named_variables(self._staged)),
            **_named(_RANDOM, random_states(self._staged)),
        }
        for name in snapshot.arrays.keys() & variables.keys():
            variables[name].assign(snapshot.arrays[name])
        self._devices.offset_seeds(random_states(self._staged))

    def begin_stage(self, before: Mapping[str, str], moving: Mapping[str, keras.Variable]) -> None:
        """Store fingerprints of all variables before a stage, and the variables it may change."""
        self._before, self._moving = before, moving

    def end_stage(self) -> None:
        """Write the checkpoint of a finished stage."""
        now, variables = fingerprints(self._staged), named_variables(self._staged)
        moved = {path for path, value in now.items() if value != self._initial.get(path)}
        self._before, self._moving = {}, {path: variables[path] for path in moved}
        self.write(Snapshot({}))

    @contextlib.contextmanager
    def within_stage(self) -> Iterator[None]:
        """Defer a stop request within the block to the next `after_step` or `check`."""
        with self._stop.deferred():
            yield

    def requests(self) -> tuple[float, float]:
        """Return this worker's requests: (checkpoint due, stop the run), 1.0 for yes."""
        is_due = self._devices.is_chief and self._is_due(self._steps + 1)
        return float(is_due), float(self._stop.received is not None)

    def check(self, all_requests: Any) -> None:
        """Raise `KeyboardInterrupt` if the run is to stop.

        Args:
          all_requests: [2], the `requests` of all workers added up.
        """
        if self._should_stop(all_requests):
            raise KeyboardInterrupt

    def after_step(self, snapshot: Callable[[], Snapshot], all_requests: Any) -> None:
        """Write a checkpoint if one is due or the run is to stop.

        Args:
          snapshot: Returns the state of the stage's loop.
          all_requests: [2], the `requests` of all workers before the step added up.

        Raises:
          KeyboardInterrupt: If the run is to stop.
        """
        self._steps += 1
        is_alone = self._devices.num_workers == 1
        is_due = self._is_due(self._steps) if is_alone else float(all_requests[0]) > 0
        if is_due or self._should_stop(all_requests):
            self.write(snapshot())
        self.check(all_requests)

    def _is_due(self, steps: int) -> bool:
        every = self._plan.every_steps
        is_late = time.monotonic() - self._written >= self._plan.every_seconds
        return is_late or (every is not None and steps >= every)

    def _should_stop(self, all_requests: Any) -> bool:
        if self._devices.num_workers == 1:
            return self._stop.received is not None
        return float(all_requests[1]) > 0  # all must stop after the same step

    def write(self, stage: Snapshot) -> None:
        """Write a checkpoint now. If that fails, log a line and keep the earlier ones.

        Args:
          stage: The state of the current stage's loop; empty between stages.
        """
        if not self._devices.is_chief:
            return
        variables = named_variables(self._staged)
        stored = {
            path: variables[path]
            for path, value in self._before.items()
            if value != self._initial.get(path)
        }
        arrays = {
            **_named(_WEIGHTS, {**stored, **self._moving}),
            **_named(_RANDOM, random_states(self._staged)),
        }
        facts = {
            **self._about,
            **self.facts,
            "initial": self._initial,
            "before": self._before,
            "seconds": self._timer.as_json(),
            "within": stage.facts or None,
        }
        values = {name: np.array(variable.numpy()) for name, variable in arrays.items()}
        try:
            self._checkpoints.write(Snapshot(facts, {**values, **stage.arrays}))
        except OSError as error:
            self._reporter.line(
                f"checkpoint  could not be written ({error.strerror or error}); training goes on. "
                f"Make room in {self._checkpoints.folder}"
            )
        self._steps, self._written = 0, time.monotonic()

    def _require_same_model(self, resumed: Snapshot) -> None:
        """Check that variables missing from a checkpoint, as no stage moved them, are unchanged."""
        then = resumed.facts["initial"]
        stored = {n.removeprefix(_WEIGHTS) for n in resumed.arrays if n.startswith(_WEIGHTS)}
        others = sorted(
            path
            for path in then.keys() | self._initial.keys()
            if path not in stored and then.get(path) != self._initial.get(path)
        )
        if others:
            raise RunFolderError(
                "A run must resume with the model that it started with. Received: a model in which "
                f"{len(others)} of {len(then)} variables that did not train are different, "
                f"{others[0]!r} among them. Has the preset or Keras changed? Restore the earlier "
                "version, or start over with --overwrite."
            )


def _named(prefix: str, variables: Mapping[str, keras.Variable]) -> dict[str, keras.Variable]:
    return {prefix + path: variable for path, variable in variables.items()}
