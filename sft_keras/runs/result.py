"""The result of a run and its display. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """The result of a run.

    A notebook displays its score and stages; its repr is one line.

    Attributes:
      metrics: Metrics of the test split, as in the report.
      history: {stage name: {metric: one value per epoch}}.
      model: The trained model. For image classification it maps images, float32
        [batch, height, width, 3] in 0..255, to probabilities [batch, num_classes] calibrated on
        the validation split.
      report: The contents of report.json.
      run_dir: The run folder.
      export_dir: The SavedModel in it.
      pictures: PNG files as bytes; the examples of the report refer to them by index.
    """

    metrics: dict[str, Any]
    history: dict[str, dict[str, list[float]]]
    model: keras.Model
    report: dict[str, Any]
    run_dir: Path
    export_dir: Path
    pictures: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        if not self.report:  # a worker that is not the chief
            return f"Result({str(self.run_dir)!r})"
        score = self.report["score"]
        estimate = self.metrics[score]
        return (
            f"Result({str(self.run_dir)!r}, test {score} {estimate['value']:.4f}, "
            f"95 % interval {estimate['low']:.4f} to {estimate['high']:.4f})"
        )

    def _repr_html_(self) -> str | None:
        """Return the HTML for notebooks; None to display the repr instead."""
        if not self.report:
            return None
        from sft_keras.report.fragments import score_fragment

        return score_fragment(self.report, self.metrics, str(self.run_dir)).html
