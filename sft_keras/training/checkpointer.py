"""Writes a run's checkpoints when they are due, and ends the run when somebody asks for it."""

from __future__ import annotations

import contextlib
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


class Checkpointer:
    """Knows what of a model a checkpoint must hold, and is asked after every step of a stage.

    Attributes:
      resumed: The checkpoint that the run goes on from; None for a new run.
      facts: What goes into every checkpoint beside the state of the stage: plain values.
    """

    def __init__(
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
        """Takes a model as it is when a run begins, before it goes on from a checkpoint.

        Args:
          staged: The model.
          checkpoints: Where they are written.
          plan: When.
          about: Plain values that go into every checkpoint.
          stop: Whether the run is to end.
          clock: Of the run.
          reporter: Receives a line about a checkpoint that could not be written.
          resumed: See above.
          devices: Of which the chief writes; all end at the same step.

        Raises:
          RunFolderError: If the model is not the one that the checkpoint is of.
        """
        self.resumed = resumed
        self.facts: Mapping[str, Any] = {}
        self._staged, self._checkpoints, self._plan, self._about = staged, checkpoints, plan, about
        self._stop, self._clock, self._reporter = stop, timer, reporter
        self._devices = devices
        self._steps, self._written = 0, time.monotonic()
        self._initial = fingerprints(staged)
        self._before: Mapping[str, str] = {}
        self._moving: Mapping[str, keras.Variable] = {}
        if resumed is not None:
            self._require_same_model(resumed)

    def restore(self, snapshot: Snapshot) -> None:
        """Puts the weights and the states of random seeds of a checkpoint into the model.

        Of adapters, which come and go with a stage, those that are there now.
        """
        variables = {
            **_named(_WEIGHTS, named_variables(self._staged)),
            **_named(_RANDOM, random_states(self._staged)),
        }
        for name in snapshot.arrays.keys() & variables.keys():
            variables[name].assign(snapshot.arrays[name])
        self._devices.offset_seeds(random_states(self._staged))

    def begin_stage(self, before: Mapping[str, str], moving: Mapping[str, keras.Variable]) -> None:
        """Notes what a stage may move, and the fingerprints of all variables before it."""
        self._before, self._moving = before, moving

    def end_stage(self) -> None:
        """Writes a checkpoint of a finished stage."""
        now, variables = fingerprints(self._staged), named_variables(self._staged)
        moved = {path for path, value in now.items() if value != self._initial.get(path)}
        self._before, self._moving = {}, {path: variables[path] for path in moved}
        self.write(Snapshot({}))

    @contextlib.contextmanager
    def within_stage(self) -> Iterator[None]:
        """Within the block a run that is to end does so in `after_step` or `check` alone."""
        with self._stop.deferred():
            yield

    def asks(self) -> tuple[float, float]:
        """Returns whether a checkpoint is due, and whether the run is to end: 1 for yes."""
        is_due = self._devices.is_chief and self._is_due(self._steps + 1)
        return float(is_due), float(self._stop.received is not None)

    def check(self, asked: Any) -> None:
        """Raises a `KeyboardInterrupt` if the run is to end; `asked` are the sums of `asks`."""
        if self._should_end(asked):
            raise KeyboardInterrupt

    def after_step(self, take: Callable[[], Snapshot], asked: Any) -> None:
        """Writes a checkpoint if one is due, or the run is to end, which it then does.

        Args:
          take: Returns the stage's state.
          asked: The sums of what `asks` gave before the step.

        Raises:
          KeyboardInterrupt: If the run is to end.
        """
        self._steps += 1
        is_alone = self._devices.num_workers == 1
        is_due = self._is_due(self._steps) if is_alone else float(asked[0]) > 0
        if is_due or self._should_end(asked):
            self.write(take())
        self.check(asked)

    def _is_due(self, steps: int) -> bool:
        every = self._plan.every_steps
        is_late = time.monotonic() - self._written >= self._plan.every_seconds
        return is_late or (every is not None and steps >= every)

    def _should_end(self, asked: Any) -> bool:
        if self._devices.num_workers == 1:
            return self._stop.received is not None
        return float(asked[1]) > 0  # all have to end at the same step

    def write(self, stage: Snapshot) -> None:
        """Writes a checkpoint now; where that fails it is said, and those before stay.

        Args:
          stage: The state of the stage within which it is; empty between stages.
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
            "seconds": self._clock.as_json(),
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
        """Checks that what a checkpoint leaves out is there: weights that no stage has moved."""
        then = resumed.facts["initial"]
        stored = {n.removeprefix(_WEIGHTS) for n in resumed.arrays if n.startswith(_WEIGHTS)}
        others = sorted(
            path
            for path in then.keys() | self._initial.keys()
            if path not in stored and then.get(path) != self._initial.get(path)
        )
        if others:
            raise RunFolderError(
                "A run must go on with the model that it began with. Received: one in which "
                f"{len(others)} of {len(then)} variables that did not train are different, "
                f"{others[0]!r} among them. Has the preset or Keras changed? Bring back what it "
                "was, or begin anew with --overwrite."
            )


def _named(prefix: str, variables: Mapping[str, keras.Variable]) -> dict[str, keras.Variable]:
    return {prefix + path: variable for path, variable in variables.items()}
