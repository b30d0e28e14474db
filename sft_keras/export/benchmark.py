"""Makes files of a trained model, and measures each beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sft_keras.evaluation.inference import answers
from sft_keras.export.comparison import as_expected, by_class, differences, scorable
from sft_keras.export.finished_run import FinishedRun, OpenedModel, require_same_score
from sft_keras.export.formats import LITERT, ONNX, Format
from sft_keras.export.model_only import named_inputs
from sft_keras.export.probe_client import Answers, Served, ask
from sft_keras.export.probe_inputs import (
    Questions,
    batches_of,
    served_batches,
    write_batches,
    written,
)
from sft_keras.tasks.token_classification.source import tag_names

_SAMPLES = 200
"""Training examples from which the scales of integers are found."""


class Measuring:
    """A trained model, its answers on the splits, and the files that are measured against them.

    Attributes:
      class_names: What the last axis of probabilities stands for: the classes, or the tags.
    """

    def __init__(self, run: FinishedRun, opened: OpenedModel, scratch: Path, threads: int) -> None:
        self._run, self._opened, self._scratch, self._threads = run, opened, scratch, threads
        names, is_of_tokens = opened.info.class_names, len(opened.model.output_shape) == 3
        self.class_names = tag_names(names) if is_of_tokens else names
        self._asked: dict[str, tuple[Questions, dict[str, Any]]] = {}
        require_same_score(run, self._split("test")[1])

    def make(self, made: Format, path: Path) -> None:
        """Writes the model in a format.

        Raises:
          ExportError: If it cannot be converted.
        """
        if made is ONNX:
            from sft_keras.export.onnx import write_onnx

            write_onnx(self._opened.model, path)
            return
        from sft_keras.export.litert import write_litert, write_litert_int8

        if made is LITERT:
            write_litert(self._opened.model, path)
        else:
            write_litert_int8(self._opened.model, path, list(self._samples()))

    def row(self, made: Format, path: Path) -> dict[str, Any]:
        """Asks a file about the test split, and one in integers about validation too."""
        questions, before = self._split("test")
        given = ask(made, path, questions.folder, self._threads)
        row = self._row(made, given, questions, before)
        row["bytes"] = path.stat().st_size
        row["takes"], row["gives"] = given.takes, given.gives
        if made.is_quantized:
            questions, trained = self._split("validation")
            outputs = ask(made, path, questions.folder, self._threads).outputs
            row["validation"] = self._scores(trained, self._figures("validation", outputs))
            row["samples"] = min(_SAMPLES, len(self._opened.prepared["train"].examples))
        return row

    def served(self, made: Format, path: Path) -> dict[str, Any]:
        """Asks the run's SavedModel about the test split, preprocessing and all."""
        task, test = self._run.recipe.task, self._opened.prepared["test"]
        questions, before = self._split("test")
        signatures = task.signatures(self._opened.model, self._run.recipe, self._opened.info)
        *_, signature = signatures.functions
        folder = questions.folder
        if "images" not in signatures.functions:
            samples, _ = task.signature_samples(questions.expected, test, len(test.examples))
            (signature,) = samples
            batches = served_batches(samples[signature], self._run.recipe.data.batch_size)
            folder = self._scratch / "served"
            write_batches(batches, folder)
        asked = Served(signature, signatures.compared, signatures.needs)
        given = ask(made, path, folder, self._threads, asked)
        row = self._row(made, given, questions, before)
        row["bytes"] = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        row["takes"], row["gives"] = signatures.as_json()["signatures"], None
        return row

    def _row(
        self, made: Format, given: Answers, questions: Questions, before: Mapping[str, Any]
    ) -> dict[str, Any]:
        after = self._figures("test", as_expected(given.outputs, questions))
        return {
            "format": made.name,
            "file": made.file,
            **differences(given.outputs, questions),
            "examples": len(questions.expected),
            "score": self._scores(before, after),
            "per_class": by_class(before, after),
            "milliseconds": {str(size): each for size, each in given.milliseconds.items()},
            "threads": self._threads,
        }

    def _split(self, name: str) -> tuple[Questions, dict[str, Any]]:
        """Returns what to ask about a split, and the trained model's figures on it."""
        if name not in self._asked:
            batches = self._batches(name)
            outputs = answers(self._opened.model, batches)
            asked = written(batches_of(batches), outputs, self._scratch / name)
            self._asked[name] = asked, self._figures(name, outputs)
        return self._asked[name]

    def _batches(self, name: str) -> Any:
        run, opened = self._run, self._opened
        return run.recipe.task.evaluation_batches(opened.prepared[name], run.recipe, opened.info)

    def _figures(self, name: str, outputs: np.ndarray) -> dict[str, Any]:
        recipe, opened = self._run.recipe, self._opened
        return recipe.task.evaluate(
            scorable(outputs), opened.prepared[name], opened.info, recipe.seed
        )

    def _scores(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
        name, trained = self._run.recipe.task.score(before)
        _, exported = self._run.recipe.task.score(after)
        return {"name": name, "trained": trained, "exported": exported}

    def _samples(self) -> Iterator[dict[str, np.ndarray]]:
        """Yields training examples, one at a time, as the seed draws them."""
        run, opened = self._run, self._opened
        train, draw = opened.prepared["train"], np.random.default_rng(run.recipe.seed)
        count = len(train.examples)
        chosen = np.sort(draw.choice(count, min(_SAMPLES, count), replace=False))
        batches = run.recipe.task.evaluation_batches(train.subset(chosen), run.recipe, opened.info)
        for batch in batches:
            inputs = {name: each.numpy() for name, each in named_inputs(batch[0]).items()}
            for row in range(len(next(iter(inputs.values())))):
                yield {name: each[row : row + 1] for name, each in inputs.items()}
