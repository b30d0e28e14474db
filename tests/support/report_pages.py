"""Synthetic reports, and a parser for the pages written from them."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from typing import Any

import numpy as np
from PIL import Image

# Class names and texts that break a page unless all are escaped.
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(2)'>",
    "a & b $x_1$ {{ 7 * 7 }} {% endraw %}",
    "タンポポ",
    "שושנה",
    "very " * 30 + "long",
)


def png(seed: int, size: int = 8) -> bytes:
    """Return a small random image, encoded as PNG."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def estimate(value: float) -> dict[str, float]:
    """Return an estimate with its confidence interval."""
    return {"value": value, "low": max(0.0, value - 0.02), "high": min(1.0, value + 0.015)}


def metrics(names: list[str], accuracy: float, top_k: dict[str, float] | None = None) -> dict:
    """Return the metrics of one split, with a random confusion matrix."""
    generator = np.random.default_rng(0)
    size = len(names)
    matrix = generator.poisson(0.4, (size, size)) + np.diag(generator.integers(20, 40, size))
    average = {"precision": 0.91, "recall": 0.92, "f1": 0.915}
    return {
        "examples": int(matrix.sum()),
        "loss": 0.1234,
        "accuracy": estimate(accuracy),
        "top_k": top_k or {},
        "macro": average,
        "weighted": average,
        "macro_f1": estimate(accuracy - 0.01),
        "per_class": [
            {
                "name": name,
                "precision": 0.9,
                "recall": 0.9,
                "f1": float(generator.uniform(0.6, 1.0)),
                "support": int(matrix[row].sum()),
            }
            for row, name in enumerate(names)
        ],
        "confusion_matrix": matrix.tolist(),
    }


def stage(name: str, unfreeze: int | str, epochs: int, accuracy: float, names: list[str]) -> dict:
    """Return the entry of one stage, with falling losses."""
    falling = [1.2 * 0.75**epoch + 0.1 for epoch in range(epochs)]
    return {
        "name": name,
        "unfreeze": unfreeze,
        "learning_rate": 1e-3 if unfreeze == 0 else 1e-5,
        "epochs_run": epochs,
        "steps": 45 * epochs,
        "seconds": 20.1,
        "stopped": "ran all its epochs",
        "frozen_blocks": "computed once for 1617 examples, 43 MB in memory (2.1 s)",
        "best_epoch": max(1, epochs - 1),
        "trainable_parameters": 12810,
        "total_parameters": 3400000,
        "history": {
            "loss": falling,
            "accuracy": [accuracy - 0.1 * loss for loss in falling],
            "val_loss": [loss + 0.05 for loss in falling],
            "val_accuracy": [accuracy - 0.13 * loss for loss in falling],
            "learning_rate": [1e-3 if unfreeze == 0 else 1e-5] * epochs,
        },
        "rate_test": None,
        "audit": {
            "trained_layers": ["head/logits", "head/hidden"],
            "moved_variables": 2,
            "frozen_variables": 260,
            "frozen_identical": True,
            "batch_norm_frozen_identical": 49,
            "unmoved_trainable": [],
        },
        "validation": metrics(names, accuracy, {"5": 0.998}),
    }


def rate_test(steps: int = 100) -> dict:
    """Return a learning-rate range test whose loss falls from 2 to 1 and then explodes."""
    rates = np.geomspace(1e-7, 10.0, 100)[:steps]
    losses = np.interp(np.arange(steps), [0, 40, 60, steps - 5], [2.0, 2.0, 1.0, 1.2])
    losses[-3:] = [8.0, 700.0, 1e9]
    return {
        "rates": rates.tolist(),
        "losses": losses.tolist(),
        "smoothed": (losses + 0.01).tolist(),
        "bounds": [float(rates[42]), float(rates[60])],
        "rule": "in the middle of 0.00025, where the loss began to fall, and 0.0063",
        "chosen": 0.0013,
        "ended": "the smoothed loss rose to 7e+08 from its lowest, 1.01",
    }


def example_rows(names: list[str], count: int) -> list[dict]:
    """Return `count` examples for a report, each with an image."""
    return [
        {
            "id": f"img/{number}.jpg",
            "true": names[number % len(names)],
            "predicted": names[(number + 1) % len(names)],
            "probability": 0.98,
            "picture": number,
        }
        for number in range(count)
    ]


def make_report(names: list[str] | None = None, mistakes: int = 4, **changes: Any) -> dict:
    """Return a complete report over the classes `names`."""
    names = names or [f"digit {number}" for number in range(10)]
    counts = list(range(10, 10 + len(names)))
    report = {
        "format": 1,
        "smoke": False,
        "title": "quickstart",
        "description": "A small network on handwritten digits: a new head, then the top block.",
        "command": "python -m sft_keras.run --recipe=quickstart",
        "recipe": {
            "task": {"type": "ImageClassification", "dropout": 0.3, "augment": {"flip": True}},
            "data": {"source": "digits", "batch_size": 32},
            "backbone": {"preset": "bundled:efficientnet_lite0", "image_size": [96, 96]},
            "stages": [
                {"name": "head", "epochs": 8, "learning_rate": 0.001, "patience": None},
                {"name": "top", "epochs": 5, "learning_rate": 1e-05, "patience": 3},
            ],
            "seed": 0,
        },
        "environment": {
            "python": "3.11.7",
            "platform": "Linux-6.1-x86_64",
            "cpu_cores": 2,
            "accelerators": [],
            "packages": {"tensorflow": "2.21.0", "keras": "3.15.1", "numpy": "2.3.0"},
        },
        "started": "2026-01-01T12:00:00+00:00",
        "seconds": {"data": 1.2, "stages": 50.0, "evaluation": 3.0, "export": 9.0, "total": 70.1},
        "data": {
            "source": "digits",
            "class_names": names,
            "sizes": {"train": 1437, "validation": 180, "test": 180},
            "counts": {"train": counts, "validation": counts, "test": counts},
            "origin": {
                "train": "from the source",
                "validation": "created here: 10 % of train, stratified, seed 0",
                "test": "created here: 10 % of train, stratified, seed 0",
            },
            "facts": {},
        },
        "inputs": {"train": {}, "validation": {}, "test": {}},
        "checked": [],
        "model": {
            "preset": "bundled:efficientnet_lite0",
            "weights": "imagenet",
            "reads": "images of 96 by 96 pixels (height by width)",
            "parameters": 3412810,
            "blocks": [
                {"name": f"block{n}", "layers": 3 * n, "parameters": 10**n} for n in range(1, 7)
            ],
        },
        "stages": [stage("head", 0, 8, 0.93, names), stage("top", 1, 5, 0.971, names)],
        "score": "accuracy",
        "test": metrics(names, 0.968, {"5": 0.9991}),
        "mistakes": example_rows(names, mistakes),
        "uncertain": [],
        "export": {
            "path": "export/1",
            "signatures": {"serving_default": "encoded images", "images": "pixels"},
            "largest_difference": 3e-7,
            "checked": 32,
        },
        "notes": ["Four augmented views of each example were stored."],
    }
    return report | changes


def report_images(report: dict) -> list[bytes]:
    """Return one image per mistake of `report`."""
    return [png(number) for number in range(len(report["mistakes"]))]


class Page(HTMLParser):
    """A parsed page.

    Attributes:
      source: The HTML.
      elements: (tag, attributes) of every element, in order.
      text: All text.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, name: str) -> list[str]:
        return [values[name] or "" for _, values in self.elements if name in values]
