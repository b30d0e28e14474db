"""A tiny recipe for every registered task, and one finished run of each, shared by all its tests.

`worker_groups` keeps the tests of one task in one worker, which trains its run once.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tiny_preset import save_tiny_preset

from sft_keras import Backbone, Data, Questions, Recipe, Stage, TaggedWords, Texts
from sft_keras.tasks import (
    Clean,
    ImageClassification,
    MaskedLM,
    QuestionAnswering,
    TextClassification,
    TextMultiLabel,
    TextRegression,
    TokenClassification,
)

_SCRATCH = tempfile.TemporaryDirectory(prefix="sft_keras_tasks_")
atexit.register(_SCRATCH.cleanup)
_TINY = Backbone(preset="tiny:bert")
_QUESTION_WIDTH = 8
NO_ANSWER_THRESHOLD = 0.5


@dataclasses.dataclass(frozen=True)
class TaskCase:
    """What the contract is tested on.

    Attributes:
      recipe: A head stage and one that unfreezes, on tiny data and a tiny backbone.
      inputs: For `predict`.
    """

    recipe: Recipe
    inputs: tuple[Any, ...]


def class_texts(count: int) -> Texts:
    """Texts of random letters in which one letter, q or z, says the class."""
    draw = np.random.default_rng(0)
    texts, labels = [], []
    for number in range(count):
        letters = list(draw.choice(list("abcdefgh "), draw.integers(2, 40)))
        letters.insert(draw.integers(0, len(letters)), "qz"[number % 2])
        texts.append("<b>" + "".join(letters) + "</b>")
        labels.append(("left", "right")[number % 2])
    return Texts((texts, labels))


def label_set_texts(count: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Texts of random letters in which the letters j, q and z each say that a label applies."""
    draw = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(count):
        letters = list(draw.choice(list("abcdefgh "), draw.integers(2, 30)))
        present = [letter for letter in "jqz" if draw.random() < 0.4]
        for letter in present:
            letters.insert(draw.integers(0, len(letters)), letter)
        texts.append("".join(letters))
        labels.append([f"has {letter}" for letter in present])
    return texts, labels


def number_texts(count: int, scale: float = 1.0, offset: float = 0.0) -> Texts:
    """Texts of random letters, some of them q; how many is the number to predict."""
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("abcq "), draw.integers(3, 30))) for _ in range(count)]
    return Texts((texts, [offset + scale * text.count("q") for text in texts]))


def tagged_sentences(count: int) -> TaggedWords:
    """Sentences of random letters: words of q, and words of x behind them, are people, z places."""
    draw = np.random.default_rng(0)
    sentences, tags = [], []
    for _ in range(count):
        words: list[str] = []
        sentence_tags: list[str] = []
        for _ in range(draw.integers(1, 5)):
            around = ["", *"(.,)"]
            other = "".join(draw.choice(list("abcdef"), draw.integers(1, 5)))
            others = [
                sign for sign in (*draw.choice(around, 2), other, draw.choice(around)) if sign
            ]
            words += others
            sentence_tags += ["O"] * len(others)
            named = [["q"], ["qq", "x"], ["z"]][draw.integers(3)]
            kind = "PLACE" if named == ["z"] else "PER"
            words += named
            sentence_tags += [f"B-{kind}", f"I-{kind}"][: len(named)]
        sentences.append(words)
        tags.append(sentence_tags)
    return TaggedWords((sentences, tags))


def questions(count: int) -> list[tuple[str, str, list[tuple[str, int]]]]:
    """Passages of random letters; what follows the letter asked for is the answer, if it is there.

    Most passages need several windows.
    """
    draw = np.random.default_rng(0)
    asked: list[tuple[str, str, list[tuple[str, int]]]] = []
    for number in range(count):
        letters = list(draw.choice(list("abcdefgh\u00e9 "), draw.integers(20, 70)))
        start = int(draw.integers(1, len(letters) - 4))
        letters[start : start + 3] = "q12"
        context = "".join(letters)
        asked.append(("q?", context, [("12", start + 1)]) if number % 4 else ("z?", context, []))
    return asked


def masked_lines(count: int) -> list[str]:
    """Texts of two letters in turn: a masked one follows from its neighbours."""
    draw = np.random.default_rng(0)
    pairs = ["ab", "cd", "ef"]
    return [" ".join(pairs[n % 3] * int(draw.integers(3, 7))) for n in range(count)]


def _image_case() -> TaskCase:
    recipe = Recipe(
        task=ImageClassification(),
        data=Data(source="synthetic:3", batch_size=8),
        backbone=Backbone(
            preset=f"hub:{save_tiny_preset(Path(_SCRATCH.name, 'tiny_resnet'))}",
            image_size=(32, 32),
            arguments={"scale": 1 / 128, "offset": -1.0},
        ),
        stages=(
            Stage(name="head", epochs=1, learning_rate=1e-2),
            Stage(name="top", epochs=1, learning_rate=1e-3, unfreeze=1),
        ),
    )
    return TaskCase(recipe, (_image_file(),))


def _image_file() -> str:
    from PIL import Image

    path = Path(_SCRATCH.name, "grey.png")
    Image.new("RGB", (40, 30), (90, 90, 90)).save(path)
    return str(path)


def _text_case() -> TaskCase:
    recipe = Recipe(
        task=TextClassification(sequence_length=32, dropout=0.0),
        data=Data(source=class_texts(120), batch_size=8),
        backbone=_TINY,
        stages=(
            Stage(name="head", epochs=2, learning_rate=1e-2),
            Stage(name="top", epochs=2, learning_rate=3e-3, unfreeze=1),
        ),
    )
    return TaskCase(recipe, ("abc q", "z", ""))


def _label_set_case() -> TaskCase:
    recipe = Recipe(
        task=TextMultiLabel(sequence_length=32, dropout=0.0, threshold=0.4),
        data=Data(source=Texts(label_set_texts(120)), batch_size=8),
        backbone=_TINY,
        stages=(
            Stage(name="head", epochs=1, learning_rate=1e-2),
            Stage(name="top", epochs=2, learning_rate=1e-2, unfreeze=1, class_weights="balanced"),
        ),
    )
    return TaskCase(recipe, ("abc q", "z"))


def _number_case() -> TaskCase:
    recipe = Recipe(
        task=TextRegression(sequence_length=32, dropout=0.0),
        data=Data(source=number_texts(120, scale=25.0, offset=1000.0), batch_size=8),
        backbone=_TINY,
        stages=(
            Stage(name="head", epochs=1, learning_rate=1e-2),
            Stage(name="top", epochs=2, learning_rate=1e-2, unfreeze=1),
        ),
    )
    return TaskCase(recipe, ("abcq", "b"))


def _token_case() -> TaskCase:
    recipe = Recipe(
        task=TokenClassification(sequence_length=48, dropout=0.0),
        data=Data(source=tagged_sentences(200), batch_size=8),
        backbone=_TINY,
        stages=(
            Stage(name="head", epochs=1, learning_rate=1e-2),
            Stage(name="top", epochs=8, learning_rate=1e-2, unfreeze=1),
        ),
    )
    return TaskCase(recipe, ("ab q, z", "abc"))


def _question_case() -> TaskCase:
    asked = questions(96)
    recipe = Recipe(
        task=QuestionAnswering(
            sequence_length=32,
            doc_stride=12,
            max_question_length=_QUESTION_WIDTH,
            max_answer_length=6,
            dropout=0.0,
            no_answer_threshold=NO_ANSWER_THRESHOLD,
        ),
        data=Data(source=Questions(asked[:64], asked[64:80], asked[80:]), batch_size=16),
        backbone=_TINY,
        stages=(
            Stage(name="head", epochs=1, learning_rate=1e-2, monitor="val_accuracy"),
            Stage(name="top", epochs=1, learning_rate=3e-3, unfreeze=1),
        ),
    )
    return TaskCase(recipe, ("q?\tabq12cd", "z?\tab"))


def _masked_case() -> TaskCase:
    file = Path(_SCRATCH.name, "lines.txt")
    lines = [f"{line} {chr(97 + number % 26)}" for number, line in enumerate(masked_lines(200))]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = Recipe(
        task=MaskedLM(sequence_length=32, share=0.2, clean=Clean(duplicates=False)),
        data=Data(source=f"texts:{file}", batch_size=16),
        backbone=_TINY,
        stages=(
            Stage(name="head", epochs=1, learning_rate=1e-2),
            Stage(name="all", epochs=14, learning_rate=1e-2, unfreeze="all"),
        ),
    )
    return TaskCase(recipe, ("a b [MASK] b",))


_CASES: dict[str, Callable[[], TaskCase]] = {
    "ImageClassification": _image_case,
    "MaskedLM": _masked_case,
    "QuestionAnswering": _question_case,
    "TextClassification": _text_case,
    "TextMultiLabel": _label_set_case,
    "TextRegression": _number_case,
    "TokenClassification": _token_case,
}
KINDS = tuple(_CASES)


@functools.cache
def task_case(kind: str) -> TaskCase:
    """Return the case of a task."""
    return _CASES[kind]()


@functools.cache
def task_run(kind: str) -> Any:
    """Return the `Result` of the finished run of a task's recipe, trained on the first call."""
    import sft_keras

    return sft_keras.finetune(task_case(kind).recipe, run_dir=Path(_SCRATCH.name, kind))
