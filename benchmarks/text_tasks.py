"""What answering questions, and reading on without labels, come to on small real data.

    python benchmarks/text_tasks.py --weights=FOLDER --xquad=FILE --reviews=FOLDER

Writes results/text_tasks.json: of questions, exact match and F1 as SQuAD's script counts them, with
each seed on other articles; of masked tokens, the loss on held-out texts before, and after each
stage. The stages of the questions were chosen on validation with seed 0. No times: they are runs of
the package alone.

FOLDERs and FILE: a BERT as `save_pretrained` leaves it; XQuAD's English questions (Artetxe et al.
2020, arXiv:1910.11856) in SQuAD's JSON; rt-polarity.pos and .neg, a text a line.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from absl import app, flags
from written import read_results, write_results

import sft_keras

_WEIGHTS = flags.DEFINE_string("weights", None, "A BERT's folder.", required=True)
_XQUAD = flags.DEFINE_string("xquad", None, "XQuAD's English file.")
_REVIEWS = flags.DEFINE_string("reviews", None, "The folder of the film reviews.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Of the runs on questions.")

QUESTIONS = (
    "data.validation=0.1",
    "data.test=0.1",
    "stages.head.epochs=3",
    "stages.top.unfreeze=3",
    "stages.top.epochs=4",
    "stages.top.learning_rate=4e-4",
)


def run(recipe: str, overrides: list[str]) -> dict[str, Any]:
    """Returns the report of a recipe on the weights."""
    given = [f"backbone.preset=hf:{_WEIGHTS.value}", *overrides]
    with tempfile.TemporaryDirectory() as folder:
        result = sft_keras.finetune(recipe, overrides=given, run_dir=Path(folder, "run"))
    return result.report


def questions() -> dict[str, Any]:
    """Returns the figures of the test split for each seed, and their means."""
    runs = {}
    for seed in _SEEDS.value:
        report = run(
            "bert_squad", [f"data.source=squad:{_XQUAD.value}", f"seed={seed}", *QUESTIONS]
        )
        runs[seed] = {
            "sizes": report["data"]["sizes"],
            "exact_match": report["test"]["exact_match"],
            "f1": report["test"]["f1"],
            "validation_f1": report["stages"][-1]["validation"]["f1"]["value"],
        }
    means = {
        name: statistics.mean(each[name]["value"] for each in runs.values())
        for name in ("exact_match", "f1")
    }
    return {"overrides": list(QUESTIONS), "means": means, "runs": runs}


def masked_tokens() -> dict[str, Any]:
    """Returns the losses a masked token on held-out reviews."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "texts.txt")
        parts = [Path(_REVIEWS.value, f"rt-polarity.{label}") for label in ("neg", "pos")]
        file.write_text("".join(part.read_text(encoding="latin-1") for part in parts), "utf-8")
        report = run("bert_domain_pretrain", [f"data.source=texts:{file}"])
    return {
        "sizes": report["data"]["sizes"],
        "before": report["stages"][0]["start"]["loss"],
        "validation": {stage["name"]: stage["validation"]["loss"] for stage in report["stages"]},
        "test": report["test"]["loss"],
        "test_accuracy": report["test"]["accuracy"],
    }


def main(_: list[str]) -> None:
    """Runs what data was given for; what was measured before of the other stays."""
    command = "python benchmarks/text_tasks.py --weights=... --xquad=... --reviews=..."
    measures = {"masked_tokens": (_REVIEWS, masked_tokens), "questions": (_XQUAD, questions)}
    for name, (data, measure) in measures.items():
        if data.value:
            # Each is written once it is there, whatever becomes of the other.
            found = {name: measure()}
            write_results("text_tasks", command, {**read_results("text_tasks"), **found})


if __name__ == "__main__":
    app.run(main)
