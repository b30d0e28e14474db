"""Parts of a page, each to be shown below a cell of a notebook."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from sft_keras.core.errors import DataError
from sft_keras.report.fragments import Fragment, render_fragment, score_fragment
from sft_keras.tasks.predictions import Prediction

if TYPE_CHECKING:
    from sft_keras.inference.exported_model import ExportedModel
    from sft_keras.runs.result import Result

_SIDE = 160  # pixels of a picture, at the most
_CLASSES = 3  # shown of an answer
_MISTAKES = 12


def score(result: Result) -> Fragment:
    """Return the score of a run with its interval, and the result of each stage."""
    return score_fragment(result.report, result.metrics, str(result.run_dir))


def curves(result: Result) -> Fragment:
    """Returns the learning curves of all stages."""
    from sft_keras.report.plots import learning_curves
    from sft_keras.report.run_page import plot_context

    stages = result.report["stages"]
    plots = [plot_context(plot) for plot in learning_curves(stages)]
    return render_fragment("curves", plots=plots, several=len(stages) > 1)


def mistakes(result: Result, most: int = _MISTAKES) -> Fragment:
    """Returns the worst mistakes on the test split, with their pictures or texts.

    Args:
      result: Of a run that predicts classes or numbers.
      most: How many to show at the most.
    """
    from sft_keras.report.run_page import with_images

    found = with_images(result.report["mistakes"], result.pictures)
    return render_fragment("mistakes", mistakes=found[:most], total=len(found))


def pictures(files: Iterable[str | Path], captions: Iterable[str]) -> Fragment:
    """Returns pictures side by side, each above its caption.

    Raises:
      DataError: If one is no image that can be read.
    """
    shown = [
        {"uri": _thumbnail(Path(file)), "caption": caption}
        for file, caption in zip(files, captions, strict=True)
    ]
    return render_fragment("pictures", images=shown)


def predictions(result: Result, inputs: Iterable[str | Path]) -> Fragment:
    """Returns what the exported model says of each input, with its picture or text.

    Args:
      result: Of any run.
      inputs: As `sft_keras.predict.predict` takes them.
    """
    from sft_keras.inference.predict import predict_with

    made = (result.export_dir / "saved_model.pb").stat().st_mtime_ns
    found = predict_with(_exported(result.run_dir.resolve(), made), inputs)
    return answers(found, reads_images(result))


def answers(found: Iterable[Prediction], are_images: bool) -> Fragment:
    """Returns predictions, each with its input: the path of an image, or a text."""
    rows = [_row(each, are_images) for each in found]
    return render_fragment("predictions", rows=rows, are_images=are_images)


def reads_images(result: Result) -> bool:
    """Whether the exported model takes files of images."""
    return result.report["export"]["signatures"]["serving_default"].startswith("image_bytes")


def report(result: Result, height: int = 640) -> Fragment:
    """Returns the whole report in a frame.

    Args:
      result: Of any run.
      height: Of the frame, in pixels.
    """
    page = (result.run_dir / "report.html").read_text(encoding="utf-8")
    return render_fragment("framed", page=page, height=height)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Fragment:
    """Returns a table with a row for each of `rows`, as long as `header`."""
    return render_fragment("table", header=list(header), rows=[list(row) for row in rows])


@functools.lru_cache(maxsize=1)
def _exported(run: Path, made: int) -> ExportedModel:
    """Returns the exported model of a run, and of one at another time another."""
    from sft_keras.inference.exported_model import ExportedModel

    return ExportedModel(run)


def _row(prediction: Prediction, is_image: bool) -> dict[str, Any]:
    """Returns an answer for the template."""
    name, has_picture = prediction.input, is_image and prediction.error is None
    ordered = sorted(prediction.probabilities.items(), key=lambda each: -each[1])
    chosen = prediction.labels if prediction.labels is not None else (prediction.label,)
    return {
        "picture": _thumbnail(Path(name)) if has_picture else None,
        "input": Path(name).name if is_image else name,
        "error": prediction.error,
        "value": prediction.value,
        "entities": prediction.entities,
        "classes": [
            {"name": label, "probability": share, "is_chosen": label in chosen}
            for label, share in ordered[:_CLASSES]
        ],
    }


def _thumbnail(file: Path) -> str:
    """Returns a small copy of an image as a data URI."""
    try:
        with Image.open(file) as image:
            small = image.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{str(file)!r} cannot be shown: {error}.") from error
    small.thumbnail((_SIDE, _SIDE))
    encoded = io.BytesIO()
    small.save(encoded, "PNG")
    return "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")
