"""Speed-up of staged fine-tuning over a plain Keras script that reaches the same losses.

    python benchmarks/staged.py [--cases=vgg_head,resnet50] [--mobilenet_weights=FILE]
        [--bert=FOLDER --reviews=FOLDER]

Writes results/staged.json after each case and prints a table; the results of cases that are not run
are kept. The sides of a case run alternately, each in its own process. The time is measured from
after the imports to the trained model: it includes opening the data, building, and every epoch with
its validation, but no test evaluation, export or report. Both sides start from the same weights and
train on the same batches.

The case mobilenet needs MobileNet's ImageNet weights and tf_flowers (TFDS_DATA_DIR), or a network
connection; minilm needs --bert and --reviews; the others generate random weights and random images.
Run it on an otherwise idle machine.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
from absl import app, flags
from image_experiments import LEARNING_RATES, ImageExperiment, prepare
from paired_runs import loss_differences, run_pairs, summary, table, write_case
from plain_keras import plain
from staged_sides import ideal, ours, ours_sweep
from text_sides import TextExperiment, ours_texts, plain_texts, prepare_texts

from sft_keras import Stage
from sft_keras.runs.environment import environment

_CASES = flags.DEFINE_list("cases", [], "Cases or prefixes of their names; empty for all.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Runs per side of a case.", lower_bound=1)
_MOBILENET_WEIGHTS = flags.DEFINE_string(
    "mobilenet_weights",
    "imagenet",
    "A file of MobileNet's ImageNet weights without top, or imagenet.",
)
_BERT = flags.DEFINE_string("bert", "", "Folder of a MiniLM-L6 that KerasHub loads.")
_REVIEWS = flags.DEFINE_string("reviews", "", "Folder with rt-polarity.pos and rt-polarity.neg.")
_TINY = flags.DEFINE_bool(
    "tiny", False, "Trial run: compare the losses of a few steps; write nothing."
)
_CHILD = flags.DEFINE_string("child", None, "Internal: CASE:SIDE to run in this process.")
_FOLDER = flags.DEFINE_string("folder", None, "Internal: folder of the files a side starts from.")

_MAX_TINY_DIFFERENCE = 1e-4  # of a loss, relative

Side = Callable[[Any, Path], dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A row of the table: the seconds of one side divided by those of the other.

    Attributes:
      what: Description of the model, data and stages.
      sides: Numerator and denominator of the ratio.
      times: Number of runs of the first side that one run of the second replaces.
      at_least: Required lower bound of the ratio; None if `at_most` is given.
      at_most: Required upper bound of the ratio.
    """

    what: str
    sides: tuple[str, str] = ("plain", "ours")
    times: int = 1
    at_least: float | None = None
    at_most: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """An experiment and the sides that run it alternately.

    Attributes:
      experiment: The experiment, passed to `prepare` and to the sides.
      prepare: Writes the files that all sides start from to a folder.
      sides: {name: function that runs the side}.
      rows: {row name: the comparison that the row shows}.
    """

    experiment: Any
    prepare: Callable[[Any, Path], None] = prepare
    sides: Mapping[str, Side] = dataclasses.field(
        default_factory=lambda: {"plain": plain, "ours": ours}
    )
    rows: Mapping[str, Comparison]


def head(epochs: int, learning_rate: float = 1e-3) -> Stage:
    """Return the stage that trains the new head.

    Our side ends a stage with its best weights, the plain script with its last. At these learning
    rates the last epoch is the best, so the next stage starts from the same weights.
    """
    return Stage(name="head", epochs=epochs, learning_rate=learning_rate)


TOP = Stage(name="top", epochs=10, learning_rate=1e-5, unfreeze=1)
RANDOM_IMAGES = {"train": 200, "validation": 40}
VGG_HEAD = ImageExperiment(
    network=keras.applications.VGG16,
    preset="vgg16",
    preprocess_input=keras.applications.vgg16.preprocess_input,
    top=("block5",),
    image_size=96,
    stages=(head(20),),
    images=RANDOM_IMAGES,
)
VGG_TOP = dataclasses.replace(VGG_HEAD, stages=(head(10), TOP))
RESNET50 = ImageExperiment(
    network=keras.applications.ResNet50,
    preset="resnet50",
    preprocess_input=keras.applications.resnet50.preprocess_input,
    top=("conv5_block3",),
    image_size=96,
    # Random residual blocks have large outputs: at Adam's default rate the loss would rise again.
    stages=(head(10, 1e-4), TOP),
    images=RANDOM_IMAGES,
)
MOBILENET = ImageExperiment(
    network=keras.applications.MobileNet,
    preset="mobilenet",
    preprocess_input=keras.applications.mobilenet.preprocess_input,
    top=("conv_dw_13", "conv_pw_13"),
    image_size=160,
    stages=(head(10, 5e-4), TOP),
    shares={"validation": 0.1, "test": 0.1},
    arguments={"alpha": 0.75},
)


def cases() -> dict[str, Case]:
    """Return all cases by name."""
    mobilenet = dataclasses.replace(MOBILENET, weights=_MOBILENET_WEIGHTS.value)
    with_ideal = {"plain": plain, "ours": ours, "ideal": ideal}
    random = "96 px, random weights, 200 random images"
    stages = "head for 10 epochs, then {} for 10"
    lower_bound = "one pass over the frozen blocks and the training steps, timed separately"
    return {
        "mobilenet": Case(
            experiment=mobilenet,
            rows={
                "mobilenet": Comparison(
                    what="MobileNet 0.75, 160 px, ImageNet weights, tf_flowers: "
                    + stages.format("the top block"),
                    at_least=3.5,
                )
            },
        ),
        "resnet50": Case(
            experiment=RESNET50,
            sides=with_ideal,
            rows={
                "resnet50": Comparison(
                    what=f"ResNet50, {random}: {stages.format('`conv5_block3`')}", at_least=4.0
                ),
                "ideal_resnet50": Comparison(
                    what=f"resnet50 / {lower_bound}", sides=("ours", "ideal"), at_most=1.2
                ),
            },
        ),
        "vgg_head": Case(
            experiment=VGG_HEAD,
            sides={"plain": plain, "ours": ours, "sweep": ours_sweep},
            rows={
                "vgg_head": Comparison(what=f"VGG16, {random}: head for 20 epochs", at_least=12.0),
                "sweep": Comparison(
                    what=f"Same VGG16 head, sweep over {len(LEARNING_RATES)} learning rates: "
                    f"{len(LEARNING_RATES)} script runs vs. one `--sweep`, report included",
                    sides=("plain", "sweep"),
                    times=len(LEARNING_RATES),
                    at_least=40.0,
                ),
            },
        ),
        "vgg_top": Case(
            experiment=VGG_TOP,
            sides=with_ideal,
            rows={
                "vgg_top": Comparison(
                    what=f"VGG16, {random}: {stages.format('`block5`')}", at_least=6.0
                ),
                "ideal_vgg_top": Comparison(
                    what=f"vgg_top / {lower_bound}", sides=("ours", "ideal"), at_most=1.2
                ),
            },
        ),
        "minilm": Case(
            experiment=TextExperiment(bert=_BERT.value, reviews=_REVIEWS.value),
            prepare=prepare_texts,
            sides={"plain": plain_texts, "ours": ours_texts},
            rows={
                "minilm": Comparison(
                    what="MiniLM (6 layers), 500 film reviews, 64 tokens: head for 10 epochs, then "
                    "the top two layers for 3",
                    at_least=6.0,
                )
            },
        ),
    }


def main(_: list[str]) -> None:
    """Run the selected cases, or one side of a case in a child process."""
    known = cases()
    if _CHILD.value:
        run_child(known, *_CHILD.value.split(":"))
        return
    chosen = [name for name in known if not _CASES.value or name.startswith(tuple(_CASES.value))]
    for prefix in _CASES.value:
        if not any(name.startswith(prefix) for name in known):
            sys.exit(f"--cases must be among {', '.join(known)}. Received: {prefix!r}.")
    summaries = {}
    for name in chosen:
        case = known[name]
        with tempfile.TemporaryDirectory() as folder:
            repeats = 1 if _TINY.value else _REPEATS.value
            runs = run_pairs(sys.argv, name, list(case.sides), Path(folder), repeats)
        for row, comparison in case.rows.items():
            first, second = comparison.sides
            summaries[row] = {
                "what": comparison.what,
                **summary(
                    {first: runs[first], second: runs[second]},
                    comparison.times,
                    comparison.at_least,
                    comparison.at_most,
                ),
            }
            if _TINY.value:
                compare_losses(row, summaries[row])
            else:
                write_case(
                    "staged",
                    "python benchmarks/staged.py",
                    environment(),
                    {row: summaries[row]},
                )
    print(table(summaries))


def run_child(known: Mapping[str, Case], name: str, side: str) -> None:
    """Prepare a case or run one side of it, and print its result on the last line as JSON."""
    case, folder = known[name], Path(_FOLDER.value)
    experiment = case.experiment.tiny() if _TINY.value else case.experiment
    result = None
    if side == "prepare":
        case.prepare(experiment, folder)
    else:
        result = case.sides[side](experiment, folder)
    print(json.dumps(result))


def compare_losses(name: str, summary: Mapping[str, Any]) -> None:
    """Print every loss of both sides; exit with status 1 if two losses differ."""
    differences = loss_differences(summary["histories"])
    for label, difference in differences:
        print(f"{name}  {label}  relative difference {difference:.1e}")
    worst = max(difference for _, difference in differences)
    if not worst <= _MAX_TINY_DIFFERENCE:
        sys.exit(
            f"{name}: a loss differs by {worst:.1e}; at most {_MAX_TINY_DIFFERENCE} is allowed."
        )


if __name__ == "__main__":
    app.run(main)
