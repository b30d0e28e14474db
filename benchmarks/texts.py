"""Film reviews and NER: staged, all layers at once, and the Hugging Face Trainer.

    python benchmarks/texts.py --weights=FOLDER --reviews=FOLDER --wnut=FOLDER --peer_python=PYTHON

Writes results/texts.json after each run, so that seeds can be added later. Every run has its own
process, alternating between the methods, with the same weights, splits, sequence length and batch
size; only the seed differs. The time is measured from after the imports to the trained model and
includes tokenization and validation. With --untimed it is not recorded, for runs on a busy machine.

FOLDERs: a BERT saved with `save_pretrained`; rt-polarity.pos and .neg (Pang & Lee 2005), one text
per line; WNUT-17 in CoNLL columns. PYTHON: the interpreter of an environment with torch,
transformers, accelerate, scikit-learn and seqeval, which this package does not need; without it the
Trainer is skipped.
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
from results_file import read_results, write_results
from sklearn.model_selection import train_test_split

import sft_keras
from sft_keras import Backbone, Data, Recipe, Stage, TaggedWords, Texts
from sft_keras.recipe.loader import to_plain
from sft_keras.tasks import TextClassification, TokenClassification
from sft_keras.tasks.token_classification.conll import read_conll

_WEIGHTS = flags.DEFINE_string(
    "weights", None, "Folder of a BERT in Hugging Face format.", required=True
)
_REVIEWS = flags.DEFINE_string("reviews", None, "Folder of the film reviews.")
_WNUT = flags.DEFINE_string("wnut", None, "Folder of WNUT-17.")
_PEER = flags.DEFINE_string(
    "peer_python", None, "Python interpreter with the Trainer; skipped if unset."
)
_CASES = flags.DEFINE_list("cases", ["reviews", "entities"], "Cases to run.")
_SIDES = flags.DEFINE_list("sides", ["staged", "trainer", "all layers"], "Methods to run.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of the runs.")
_UNTIMED = flags.DEFINE_bool("untimed", False, "Do not record times: the machine is busy.")
_EXAMPLES = flags.DEFINE_integer(
    "examples", None, "Trial run on n training examples; write nothing."
)
_CHILD = flags.DEFINE_string("child", None, "Internal: CASE:SIDE:SEED to run in this process.")
_FOLDER = flags.DEFINE_string("folder", None, "Internal: folder of the splits.")

LENGTH, BATCH_SIZE = 64, 32
HELD_OUT = 1000  # reviews each for validation and test
ALL_LAYERS = Stage(
    name="all",
    epochs=3,
    learning_rate=5e-5,
    schedule="linear",
    warmup=0.1,
    weight_decay=0.01,
    unfreeze="all",
)
# Learning rates were chosen on the validation split with seed 0, and epochs and unfrozen layers to
# stay within a third of the Trainer's time.
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
METRICS = {"reviews": "accuracy", "entities": "f1"}


def review_splits() -> dict[str, Any]:
    """Return {split: [texts, labels]}, stratified, with `HELD_OUT` for validation and test each."""
    texts, labels = [], []
    for label in ("neg", "pos"):
        file = Path(_REVIEWS.value, f"rt-polarity.{label}")
        lines = file.read_text(encoding="latin-1").splitlines()
        texts += [" ".join(line.split()) for line in lines]
        labels += [label] * len(lines)
    train, held_out = train_test_split(
        np.arange(len(texts)), test_size=2 * HELD_OUT, random_state=0, stratify=labels
    )
    validation, test = train_test_split(
        held_out, test_size=HELD_OUT, random_state=0, stratify=[labels[index] for index in held_out]
    )
    parts = {"train": train[: _EXAMPLES.value], "validation": validation, "test": test}
    return {
        name: [[texts[index] for index in part], [labels[index] for index in part]]
        for name, part in parts.items()
    }


def entity_splits() -> dict[str, Any]:
    """Return {split: [words, tags]} with the splits of WNUT-17."""
    sentences = dict(read_conll(_WNUT.value).by_split)
    sentences["train"] = sentences["train"][: _EXAMPLES.value]
    return {
        name: [[sentence.words for sentence in part], [sentence.tags for sentence in part]]
        for name, part in sentences.items()
    }


def train_ours(case: str, side: str, seed: int, splits: dict[str, Any]) -> dict[str, Any]:
    """Run a recipe and return its seconds and its validation and test score."""
    task, source = TextClassification(sequence_length=LENGTH), Texts(**splits)
    # The Trainer keeps duplicates, so this side does too.
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
    metric = METRICS[case]
    return {
        "seconds": report["seconds"]["data"] + report["seconds"]["stages"],
        "validation": report["stages"][-1]["validation"][metric]["value"],
        "test": report["test"][metric]["value"],
        "stages": {stage["name"]: stage["seconds"] for stage in report["stages"]},
    }


def run_side(case: str, side: str, seed: str, folder: Path) -> dict[str, Any]:
    """Train in a new process and return the JSON object on the last line of its output."""
    if side == "trainer":
        peer = Path(__file__).with_name("text_peer.py")
        settings = {"weights": _WEIGHTS.value, "length": LENGTH, "batch_size": BATCH_SIZE}
        stage = {"epochs": ALL_LAYERS.epochs, "learning_rate": ALL_LAYERS.learning_rate}
        peer_settings = json.dumps({**settings, **stage, "case": case, "seed": int(seed)})
        command = [_PEER.value, str(peer), str(folder / f"{case}.json"), peer_settings]
    else:
        child = [f"--child={case}:{side}:{seed}", f"--folder={folder}"]
        command = [sys.executable, __file__, f"--weights={_WEIGHTS.value}", *child]
    with tempfile.TemporaryDirectory() as empty_cache:
        environment = {**os.environ, "SFT_KERAS_CACHE": empty_cache}
        finished = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
    if finished.returncode:
        sys.exit(f"{case}, {side} failed. The end of its output:\n{finished.stderr[-4000:]}")
    outcome = json.loads(finished.stdout.splitlines()[-1])
    print(
        f"{case}  {side}  seed {seed}: {outcome['seconds']:.0f} s, test {outcome['test']:.4f}",
        flush=True,
    )
    return outcome


def main(_: list[str]) -> None:
    """Run every side of every case with every seed and write the results."""
    if _CHILD.value:
        case, side, seed = _CHILD.value.split(":")
        splits = json.loads(Path(_FOLDER.value, f"{case}.json").read_text(encoding="utf-8"))
        print(json.dumps(train_ours(case, side, int(seed), splits)))
        return
    sides = [side for side in _SIDES.value if side != "trainer" or _PEER.value]
    for case in _CASES.value:
        splits = {"reviews": review_splits, "entities": entity_splits}[case]()
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, f"{case}.json").write_text(json.dumps(splits), encoding="utf-8")
            for seed in _SEEDS.value:
                for side in sides:
                    outcome = run_side(case, side, seed, Path(folder))
                    if _UNTIMED.value:
                        outcome = {"validation": outcome["validation"], "test": outcome["test"]}
                    if _EXAMPLES.value is None:
                        sizes = {name: len(labels) for name, (_, labels) in splits.items()}
                        add(case, side, seed, outcome, sizes)


def add(case: str, side: str, seed: str, outcome: dict[str, Any], sizes: dict[str, int]) -> None:
    """Add a run to the results; it replaces an earlier one of the same side and seed."""
    results = read_results("texts")
    stages = [to_plain(stage) for stage in STAGES[case]]
    result = results.get(case, {})
    if result.get("staged") != stages:  # runs with other stages are not comparable
        result = {"figure": METRICS[case], "sizes": sizes, "staged": stages, "sides": {}}
    runs = result["sides"].get(side, {}).get("runs", {}) | {seed: outcome}
    result["sides"][side] = _summary(dict(sorted(runs.items())))
    command = "python benchmarks/texts.py --weights=... --reviews=... --wnut=... --peer_python=..."
    write_results("texts", command, {**results, case: result})


def _summary(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    tests = [run["test"] for run in runs.values()]
    seconds = [run["seconds"] for run in runs.values() if "seconds" in run]
    return {
        "test_mean": statistics.mean(tests),
        "test_range": [min(tests), max(tests)],
        "validation_mean": statistics.mean(run["validation"] for run in runs.values()),
        "seconds_median": statistics.median(seconds) if seconds else None,
        "timed": len(seconds),
        "runs": runs,
    }


if __name__ == "__main__":
    app.run(main)
