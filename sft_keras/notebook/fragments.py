"""HTML fragments of a run, to be displayed below a notebook cell."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from sft_keras.core.errors import DataError
from sft_keras.report.fragments import Fragment, render_fragment, score_fragment
from sft_keras.tasks.predictions import Prediction

if TYPE_CHECKING:
    from sft_keras.runs.result import Result

_MAX_SIDE = 160  # pixels
_NUM_CLASSES = 3  # per prediction
_NUM_MISTAKES = 12


def score(result: Result) -> Fragment:
    """Return the score of a run with its confidence interval, and the result of each stage."""
    return score_fragment(result.report, result.metrics, str(result.run_dir))


def curves(result: Result) -> Fragment:
    """Return the learning curves of all stages."""
    from sft_keras.report.plots import learning_curves
    from sft_keras.report.run_page import plot_context

    stages = result.report["stages"]
    plots = [plot_context(plot) for plot in learning_curves(stages)]
    return render_fragment("curves", plots=plots, several=len(stages) > 1)


def mistakes(result: Result, most: int = _NUM_MISTAKES) -> Fragment:
    """Return the worst mistakes on the test split, with their images or texts.

    Args:
      result: The result of a run.
      most: The maximum number of mistakes to show.
    """
    from sft_keras.report.run_page import with_images

    rows = with_images(result.report["mistakes"], result.pictures)
    return render_fragment("mistakes", mistakes=rows[:most], total=len(rows))


def pictures(files: Iterable[str | Path], captions: Iterable[str]) -> Fragment:
    """Return images side by side, each above its caption.

    Raises:
      DataError: A file cannot be read as an image.
    """
    images = [
        {"uri": _thumbnail(Path(file)), "caption": caption}
        for file, caption in zip(files, captions, strict=True)
    ]
    return render_fragment("pictures", images=images)


def predictions(result: Result, inputs: str | Path | Iterable[str | Path]) -> Fragment:
    """Return the exported model's prediction for each input, with the image or text.

    Args:
      result: The result of a run.
      inputs: Files or texts, as `sft_keras.predict.predict` takes them.
    """
    from sft_keras.inference.predict import predict

    return render_predictions(predict(result.run_dir, inputs), reads_images(result))


def render_predictions(made: Iterable[Prediction], are_images: bool) -> Fragment:
    """Return predictions, each with its input: the path of an image, or a text."""
    rows = [_prediction_row(prediction, are_images) for prediction in made]
    return render_fragment("predictions", rows=rows, are_images=are_images)


def reads_images(result: Result) -> bool:
    """Return whether the exported model takes image files."""
    signature: str = result.report["export"]["signatures"]["serving_default"]
    return signature.startswith("image_bytes")


def report(result: Result, height: int = 640) -> Fragment:
    """Return the complete report in a frame.

    Args:
      result: The result of a run.
      height: The height of the frame in pixels.
    """
    page = (result.run_dir / "report.html").read_text(encoding="utf-8")
    return render_fragment("framed", page=page, height=height)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Fragment:
    """Return a table. Each of `rows` has one value per column of `header`."""
    return render_fragment("table", header=list(header), rows=[list(row) for row in rows])


def _prediction_row(prediction: Prediction, is_image: bool) -> dict[str, Any]:
    """Return a prediction with the fields of the template."""
    name, has_image = prediction.input, is_image and prediction.error is None
    ordered = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    chosen = prediction.labels if prediction.labels is not None else (prediction.label,)
    return {
        "picture": _thumbnail(Path(name)) if has_image else None,
        "input": Path(name).name if is_image else name,
        "error": prediction.error,
        "value": prediction.value,
        "entities": prediction.entities,
        "line": "" if prediction.error is not None else prediction.describe().strip(),
        "classes": [
            {"name": label, "probability": probability, "is_chosen": label in chosen}
            for label, probability in ordered[:_NUM_CLASSES]
        ],
    }


def _thumbnail(file: Path) -> str:
    """Return a thumbnail of an image as a data URI."""
    try:
        with Image.open(file) as image:
            small = image.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{str(file)!r} cannot be displayed as an image: {error}.") from error
    small.thumbnail((_MAX_SIDE, _MAX_SIDE))
    encoded = io.BytesIO()
    small.save(encoded, "PNG")
    return "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")
