"""What a run leaves behind, and how it is shown. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """What a run leaves behind.

    In a notebook it is shown as its score and its stages; elsewhere as a line.

    Attributes:
      metrics: The figures of the test split, as in the report.
      history: {stage name: {figure: value an epoch}}.
      model: The trained model: images float32 [batch, height, width, 3] in 0..255 to
        probabilities [batch, num_classes], calibrated on the validation split.
      report: All that report.json holds.
      run_dir: The run folder.
      export_dir: The SavedModel in it.
      pictures: PNG files' bytes, which the examples in the report name by their place.
    """

    metrics: dict[str, Any]
    history: dict[str, dict[str, list[float]]]
    model: keras.Model
    report: dict[str, Any]
    run_dir: Path
    export_dir: Path
    pictures: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        if not self.report:  # of a worker that is not the chief
            return f"Result({str(self.run_dir)!r})"
        score = self.report["score"]
        figure = self.metrics[score]
        return (
            f"Result({str(self.run_dir)!r}, test {score} {figure['value']:.4f}, "
            f"95 % interval {figure['low']:.4f} to {figure['high']:.4f})"
        )

    def _repr_html_(self) -> str | None:
        """Returns what a notebook shows; None for the line above."""
        if not self.report:
            return None
        from sft_keras.report.fragments import score_fragment

        return score_fragment(self.report, self.metrics, str(self.run_dir)).html
