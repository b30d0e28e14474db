"""Film reviews and named entities: staged, all layers at once, and Hugging Face's Trainer.

    python benchmarks/texts.py --weights=FOLDER --reviews=FOLDER --wnut=FOLDER --peer_python=PYTHON

Writes results/texts.json, a run at a time, so that seeds can be added. Every run is a process of
its own, by turns, with the same weights, splits, sequence length and batch size; only the seed
differs. The seconds are those of the work after import, tokenizing and validation included, until
the model is trained; with --untimed they are not written, since other work was done beside it.

FOLDERs: a BERT as `save_pretrained` leaves it; rt-polarity.pos and .neg (Pang & Lee 2005), a text a
line; WNUT-17 in CoNLL's columns. PYTHON: of an environment with torch, transformers, accelerate,
scikit-learn and seqeval, which this package does not need; without it the Trainer is left out.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from sklearn.model_selection import train_test_split
from written import read_results, write_results

import sft_keras
from sft_keras import Backbone, Data, Recipe, Stage, TaggedWords, Texts
from sft_keras.recipe.loader import to_plain
from sft_keras.tasks import TextClassification, TokenClassification
from sft_keras.tasks.token_classification.conll import read_conll

_WEIGHTS = flags.DEFINE_string("weights", None, "A BERT's folder.", required=True)
_REVIEWS = flags.DEFINE_string("reviews", None, "The folder of the film reviews.")
_WNUT = flags.DEFINE_string("wnut", None, "The folder of WNUT-17.")
_PEER = flags.DEFINE_string("peer_python", None, "The Python that has the Trainer.")
_CASES = flags.DEFINE_list("cases", ["reviews", "entities"], "Which to run.")
_SIDES = flags.DEFINE_list("sides", ["staged", "trainer", "all layers"], "Which to run.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Of the runs.")
_UNTIMED = flags.DEFINE_bool("untimed", False, "Other work goes on beside it: leave out seconds.")
_EXAMPLES = flags.DEFINE_integer("examples", None, "So many training examples, to try it.")
_CHILD = flags.DEFINE_string("child", None, "CASE:SIDE:SEED; what the processes are started with.")
_FOLDER = flags.DEFINE_string("folder", None, "Where the splits are; for the same.")

LENGTH, BATCH_SIZE = 64, 32
HELD_OUT = 1000  # reviews for validation, and for the test
ALL_LAYERS = Stage(
    name="all",
    epochs=3,
    learning_rate=5e-5,
    schedule="linear",
    warmup=0.1,
    weight_decay=0.01,
    unfreeze="all",
)
# Chosen on validation with seed 0: the rates, and what a third of the Trainer's time allows.
STAGES = {
    "reviews": (
        Stage(name="head", epochs=8, learning_rate=3e-3),
        Stage(
            name="top",
            epochs=2,
            learning_rate=4e-4,
            schedule="linear",
            warmup=0.1,
            weight_decay=0.01,
            unfreeze=2,
        ),
    ),
    "entities": (
        Stage(name="head", epochs=12, learning_rate=1e-2),
        Stage(
            name="top",
            epochs=3,
            learning_rate=6e-4,
            schedule="linear",
            warmup=0.1,
            weight_decay=0.01,
            unfreeze=1,
        ),
    ),
}
FIGURES = {"reviews": "accuracy", "entities": "f1"}


def review_splits() -> dict[str, Any]:
    """Returns {split: [texts, labels]}: 1,000 to validate and 1,000 to test, stratified."""
    texts, labels = [], []
    for label in ("neg", "pos"):
        file = Path(_REVIEWS.value, f"rt-polarity.{label}")
        lines = file.read_text(encoding="latin-1").splitlines()
        texts += [" ".join(line.split()) for line in lines]
        labels += [label] * len(lines)
    rest, held = train_test_split(
        np.arange(len(texts)), test_size=2 * HELD_OUT, random_state=0, stratify=labels
    )
    validation, test = train_test_split(
        held, test_size=HELD_OUT, random_state=0, stratify=[labels[each] for each in held]
    )
    parts = {"train": rest[: _EXAMPLES.value], "validation": validation, "test": test}
    return {
        name: [[texts[each] for each in part], [labels[each] for each in part]]
        for name, part in parts.items()
    }


def entity_splits() -> dict[str, Any]:
    """Returns {split: [words, tags]}, as WNUT-17 has them."""
    sentences, _ = read_conll(_WNUT.value)
    sentences["train"] = sentences["train"][: _EXAMPLES.value]
    return {
        name: [[each.words for each in part], [each.tags for each in part]]
        for name, part in sentences.items()
    }


def ours(case: str, side: str, seed: int, splits: dict[str, Any]) -> dict[str, Any]:
    """Runs a recipe; returns its seconds and its figure on validation and test."""
    task, source = TextClassification(sequence_length=LENGTH), Texts(**splits)
    # Each text counts, on this side as on the other.
    task = dataclasses.replace(task, clean=dataclasses.replace(task.clean, duplicates=False))
    if case == "entities":
        task, source = TokenClassification(sequence_length=LENGTH), TaggedWords(**splits)
    recipe = Recipe(
        task=task,
        data=Data(source=source, batch_size=BATCH_SIZE),
        backbone=Backbone(preset=f"hf:{_WEIGHTS.value}"),
        stages=STAGES[case] if side == "staged" else (ALL_LAYERS,),
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        report = sft_keras.finetune(recipe, run_dir=Path(folder, "run")).report
    figure = FIGURES[case]
    return {
        "seconds": report["seconds"]["data"] + report["seconds"]["stages"],
        "validation": report["stages"][-1]["validation"][figure]["value"],
        "test": report["test"][figure]["value"],
        "stages": {stage["name"]: stage["seconds"] for stage in report["stages"]},
    }


def run(case: str, side: str, seed: str, folder: Path) -> dict[str, Any]:
    """Runs one training in a process of its own; returns what it printed last, as JSON."""
    if side == "trainer":
        peer = Path(__file__).with_name("text_peer.py")
        settings = {"weights": _WEIGHTS.value, "length": LENGTH, "batch_size": BATCH_SIZE}
        stage = {"epochs": ALL_LAYERS.epochs, "learning_rate": ALL_LAYERS.learning_rate}
        given = json.dumps({**settings, **stage, "case": case, "seed": int(seed)})
        command = [_PEER.value, str(peer), str(folder / f"{case}.json"), given]
    else:
        child = [f"--child={case}:{side}:{seed}", f"--folder={folder}"]
        command = [sys.executable, __file__, f"--weights={_WEIGHTS.value}", *child]
    with tempfile.TemporaryDirectory() as nothing_stored:
        changed = {**os.environ, "SFT_KERAS_CACHE": nothing_stored}
        ended = subprocess.run(command, env=changed, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{case}, {side} failed. Its last words:\n{ended.stderr[-4000:]}")
    made = json.loads(ended.stdout.splitlines()[-1])
    print(
        f"{case}  {side}  seed {seed}: {made['seconds']:.0f} s, test {made['test']:.4f}", flush=True
    )
    return made


def main(_: list[str]) -> None:
    """Runs every side of every case with every seed and writes the figures."""
    if _CHILD.value:
        case, side, seed = _CHILD.value.split(":")
        splits = json.loads(Path(_FOLDER.value, f"{case}.json").read_text(encoding="utf-8"))
        print(json.dumps(ours(case, side, int(seed), splits)))
        return
    sides = [side for side in _SIDES.value if side != "trainer" or _PEER.value]
    for case in _CASES.value:
        splits = {"reviews": review_splits, "entities": entity_splits}[case]()
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, f"{case}.json").write_text(json.dumps(splits), encoding="utf-8")
            for seed in _SEEDS.value:
                for side in sides:
                    made = run(case, side, seed, Path(folder))
                    if _UNTIMED.value:
                        made = {"validation": made["validation"], "test": made["test"]}
                    if _EXAMPLES.value is None:
                        sizes = {name: len(labels) for name, (_, labels) in splits.items()}
                        add(case, side, seed, made, sizes)


def add(case: str, side: str, seed: str, made: dict[str, Any], sizes: dict[str, int]) -> None:
    """Writes a run to the results, in place of one of the same side and seed."""
    figures = read_results("texts")
    stages = [to_plain(stage) for stage in STAGES[case]]
    own = figures.get(case, {})
    if own.get("staged") != stages:  # those of other stages do not stand beside these
        own = {"figure": FIGURES[case], "sizes": sizes, "staged": stages, "sides": {}}
    runs = own["sides"].get(side, {}).get("runs", {}) | {seed: made}
    own["sides"][side] = _summary(dict(sorted(runs.items())))
    command = "python benchmarks/texts.py --weights=... --reviews=... --wnut=... --peer_python=..."
    write_results("texts", command, {**figures, case: own})


def _summary(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    tests = [each["test"] for each in runs.values()]
    seconds = [each["seconds"] for each in runs.values() if "seconds" in each]
    return {
        "test_mean": statistics.mean(tests),
        "test_range": [min(tests), max(tests)],
        "validation_mean": statistics.mean(each["validation"] for each in runs.values()),
        "seconds_median": statistics.median(seconds) if seconds else None,
        "timed": len(seconds),
        "runs": runs,
    }


if __name__ == "__main__":
    app.run(main)
