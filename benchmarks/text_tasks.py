"""Question answering and masked language modelling on small real datasets.

    python benchmarks/text_tasks.py --weights=FOLDER --xquad=FILE --reviews=FOLDER

Writes results/text_tasks.json: for question answering, exact match and F1 as defined by the SQuAD
evaluation script, each seed with different test articles; for masked tokens, the loss on held-out
texts before training and after each stage. The stages for question answering were chosen on the
validation split of seed 0. Run times are not compared, because there is no other implementation.

FOLDERs and FILE: a BERT saved with `save_pretrained`; the English part of XQuAD (Artetxe et al.
2020, arXiv:1910.11856) in SQuAD's JSON format; rt-polarity.pos and .neg, one text per line.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from absl import app, flags
from results_file import read_results, write_results

import sft_keras

_WEIGHTS = flags.DEFINE_string(
    "weights", None, "Folder of a BERT in Hugging Face format.", required=True
)
_XQUAD = flags.DEFINE_string("xquad", None, "The English file of XQuAD.")
_REVIEWS = flags.DEFINE_string("reviews", None, "Folder of the film reviews.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of the question answering runs.")

QUESTIONS = (
    "data.validation=0.1",
    "data.test=0.1",
    "stages.head.epochs=3",
    "stages.top.unfreeze=3",
    "stages.top.epochs=4",
    "stages.top.learning_rate=4e-4",
)


def run(recipe: str, overrides: list[str]) -> dict[str, Any]:
    """Run a recipe from --weights and return its report."""
    overrides = [f"backbone.preset=hf:{_WEIGHTS.value}", *overrides]
    with tempfile.TemporaryDirectory() as folder:
        result = sft_keras.finetune(recipe, overrides=overrides, run_dir=Path(folder, "run"))
    return result.report


def questions() -> dict[str, Any]:
    """Return the test metrics of each seed and their means."""
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
        name: statistics.mean(result[name]["value"] for result in runs.values())
        for name in ("exact_match", "f1")
    }
    return {"overrides": list(QUESTIONS), "means": means, "runs": runs}


def masked_tokens() -> dict[str, Any]:
    """Return the losses per masked token on held-out reviews."""
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
    """Run the parts whose data was given, and keep the recorded results of the other."""
    command = "python benchmarks/text_tasks.py --weights=... --xquad=... --reviews=..."
    measures = {"masked_tokens": (_REVIEWS, masked_tokens), "questions": (_XQUAD, questions)}
    for name, (data, measure) in measures.items():
        if data.value:
            # Written at once, so that a failure of the other part loses nothing.
            result = {name: measure()}
            write_results("text_tasks", command, {**read_results("text_tasks"), **result})


if __name__ == "__main__":
    app.run(main)
