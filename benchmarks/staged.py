"""How much faster staged fine-tuning is than a plain Keras script that ends with the same losses.

    python benchmarks/staged.py [--cases=vgg_head,resnet50] [--mobilenet_weights=FILE]
        [--bert=FOLDER --reviews=FOLDER]

Writes results/staged.json after each case and prints a table; the results of cases that are not
run are kept. Each case is run in pairs, one side after the other, each in a process of its own. The
clock starts after the imports and stops with the trained model: opening the data, building and
every epoch with its validation are in it; no test split, no export and no report. Both sides
begin with the same weights and take the same batches.

The case mobilenet needs the ImageNet weights of MobileNet and tf_flowers (TFDS_DATA_DIR), or a
network; minilm needs --bert and --reviews; the others make random weights and random images.
Nothing else should run meanwhile.
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

_CASES = flags.DEFINE_list("cases", [], "Cases, or starts of their names; all if none.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Pairs of runs a case.", lower_bound=1)
_MOBILENET_WEIGHTS = flags.DEFINE_string(
    "mobilenet_weights", "imagenet", "A file of MobileNet's ImageNet weights without top."
)
_BERT = flags.DEFINE_string("bert", "", "A folder of MiniLM-L6 that KerasHub loads.")
_REVIEWS = flags.DEFINE_string("reviews", "", "A folder of rt-polarity.pos and rt-polarity.neg.")
_TINY = flags.DEFINE_bool("tiny", False, "Compare the losses of a few steps; write nothing.")
_CHILD = flags.DEFINE_string("child", None, "CASE:SIDE to run in this process. Set by the program.")
_FOLDER = flags.DEFINE_string("folder", None, "What a child starts from. Set by the program.")

_TINY_DIFFERENCE = 1e-4  # of a loss, relative

Side = Callable[[Any, Path], dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A row of the table: the seconds of one side divided by those of another.

    Attributes:
      what: What is compared, in words.
      sides: The side above the line, and the one below.
      times: How many runs of the side above are compared with one of the side below.
      at_least: The ratio that is wanted, or
      at_most: the same, of which less is better.
    """

    what: str
    sides: tuple[str, str] = ("plain", "ours")
    times: int = 1
    at_least: float | None = None
    at_most: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Ways to the same result, which are run by turns.

    Attributes:
      experiment: What is trained; handed to `prepare` and to the sides.
      prepare: Writes what all sides start from to a folder.
      sides: By name.
      rows: What is made of their seconds, by the row's name.
    """

    experiment: Any
    prepare: Callable[[Any, Path], None] = prepare
    sides: Mapping[str, Side] = dataclasses.field(
        default_factory=lambda: {"plain": plain, "ours": ours}
    )
    rows: Mapping[str, Comparison]


def head(epochs: int, learning_rate: float = 1e-3) -> Stage:
    """Returns the stage of the new head.

    Our side ends a stage with the weights of its best epoch, the plain script with those of the
    last. At the rates here these are the same, so that the next stage begins alike.
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
    # What random residual blocks give is large, and at Adam's own rate the loss would go up again.
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
    """Returns every case by its name."""
    mobilenet = dataclasses.replace(MOBILENET, weights=_MOBILENET_WEIGHTS.value)
    with_ideal = {"plain": plain, "ours": ours, "ideal": ideal}
    random = "96 px, random weights, 200 random images, batch 32"
    both = "10 epochs of the head, 10 with"
    ideally = "one frozen forward pass and the steps of what trains, each timed alone"
    return {
        "mobilenet": Case(
            experiment=mobilenet,
            rows={
                "mobilenet": Comparison(
                    what="MobileNet 0.75, 160 px, ImageNet weights, tf_flowers, batch 32: "
                    f"{both} the top block",
                    at_least=3.5,
                )
            },
        ),
        "resnet50": Case(
            experiment=RESNET50,
            sides=with_ideal,
            rows={
                "resnet50": Comparison(
                    what=f"ResNet50, {random}: {both} conv5_block3", at_least=4.0
                ),
                "ideal_resnet50": Comparison(
                    what=f"resnet50 / {ideally}", sides=("ours", "ideal"), at_most=1.2
                ),
            },
        ),
        "vgg_head": Case(
            experiment=VGG_HEAD,
            sides={"plain": plain, "ours": ours, "sweep": ours_sweep},
            rows={
                "vgg_head": Comparison(
                    what=f"VGG16, {random}: 20 epochs of the head", at_least=12.0
                ),
                "sweep": Comparison(
                    what=f"the same with each of {len(LEARNING_RATES)} learning rates: so many "
                    "times the seconds of the script / one sweep with its report",
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
                "vgg_top": Comparison(what=f"VGG16, {random}: {both} block5", at_least=6.0),
                "ideal_vgg_top": Comparison(
                    what=f"vgg_top / {ideally}", sides=("ours", "ideal"), at_most=1.2
                ),
            },
        ),
        "minilm": Case(
            experiment=TextExperiment(bert=_BERT.value, reviews=_REVIEWS.value),
            prepare=prepare_texts,
            sides={"plain": plain_texts, "ours": ours_texts},
            rows={
                "minilm": Comparison(
                    what="MiniLM (6 layers), 500 film reviews, sequence_length 64, batch 32: 10 "
                    "epochs of the head, 3 with the top two layers",
                    at_least=6.0,
                )
            },
        ),
    }


def main(_: list[str]) -> None:
    """Runs the cases that were asked for, or one side of one in a child process."""
    known = cases()
    if _CHILD.value:
        run_child(known, *_CHILD.value.split(":"))
        return
    chosen = [name for name in known if not _CASES.value or name.startswith(tuple(_CASES.value))]
    for asked in _CASES.value:
        if not any(name.startswith(asked) for name in known):
            sys.exit(f"--cases may name {', '.join(known)}. Received: {asked!r}.")
    figures = {}
    for name in chosen:
        case = known[name]
        with tempfile.TemporaryDirectory() as folder:
            repeats = 1 if _TINY.value else _REPEATS.value
            runs = run_pairs(sys.argv, name, list(case.sides), Path(folder), repeats)
        for row, comparison in case.rows.items():
            above, below = comparison.sides
            figures[row] = {
                "what": comparison.what,
                **summary(
                    {above: runs[above], below: runs[below]},
                    comparison.times,
                    comparison.at_least,
                    comparison.at_most,
                ),
            }
            if _TINY.value:
                compare(row, figures[row])
            else:
                one = {row: figures[row]}
                write_case("staged", "python benchmarks/staged.py", environment(), one)
    print(table(figures))


def run_child(known: Mapping[str, Case], name: str, side: str) -> None:
    """Prepares a case, or runs one side of it and prints its result on the last line."""
    case, folder = known[name], Path(_FOLDER.value)
    experiment = case.experiment.tiny() if _TINY.value else case.experiment
    result = None
    if side == "prepare":
        case.prepare(experiment, folder)
    else:
        result = case.sides[side](experiment, folder)
    print(json.dumps(result))


def compare(name: str, figures: Mapping[str, Any]) -> None:
    """Prints what both sides train and every loss; ends the program if two losses differ."""
    differences = loss_differences(figures["histories"])
    for what, difference in differences:
        print(f"{name}  {what}  relative difference {difference:.1e}")
    worst = max(difference for _, difference in differences)
    if not worst <= _TINY_DIFFERENCE:
        sys.exit(f"{name}: a loss differs by {worst:.1e}; {_TINY_DIFFERENCE} is the most allowed.")


if __name__ == "__main__":
    app.run(main)
