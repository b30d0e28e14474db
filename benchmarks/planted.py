"""Recall of the data check on faults planted in copies of two datasets.

    python benchmarks/planted.py --weights=FILE --bert=FOLDER --reviews=FOLDER

Writes results/planted.json. tf_flowers (TFDS_DATA_DIR, or a network connection) and film reviews
are copied with a fixed split, and these faults are planted: 20 training examples copied to the test
split; 20 more copied with small changes (images downscaled and re-encoded; texts with one word
dropped and different punctuation); 5 % of the training labels flipped; and 10 files truncated in
the middle, or texts emptied. The result counts how many planted faults of each kind the check finds
and misses, and how many other examples it flags. Running the check on a copy without planted faults
shows what it flags in the original data.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import app, flags
from results_file import write_results

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.check.findings import Checked
from sft_keras.check.inspect import check_data
from sft_keras.core.reporter import CONSOLE
from sft_keras.tasks import ImageClassification, TextClassification

_WEIGHTS = flags.DEFINE_string(
    "weights", "imagenet", "A file of MobileNet's ImageNet weights without top, or imagenet."
)
_BERT = flags.DEFINE_string(
    "bert", None, "The folder of a MiniLM in Hugging Face format.", required=True
)
_REVIEWS = flags.DEFINE_string(
    "reviews", None, "Folder with rt-polarity.pos and rt-polarity.neg.", required=True
)

COPIES, CORRUPT, FLIPPED = 20, 10, 0.05
EXACT, NEAR = "exact duplicates across train and test", "near-duplicates across train and test"
LABELS, UNREADABLE = "flipped labels", "truncated or empty"
KINDS = {
    EXACT: ("same across splits",),
    NEAR: ("nearly the same across splits",),
    LABELS: ("likely wrong labels",),
    UNREADABLE: ("unreadable", "empty texts"),
}
"""For each planted fault, the kinds of findings that report it."""
PARTNERS = "partners"  # the originals of planted duplicates, which the check also names
STAGES = (Stage(name="head", epochs=1, learning_rate=1e-3),)
REVIEWS = 2000


def main(_: list[str]) -> None:
    """Plant the faults, run the check and write the counts."""
    data = {}
    for name, make in (("flowers", flowers), ("film reviews", reviews)):
        with tempfile.TemporaryDirectory() as folder:
            clean, _ = make(Path(folder, "clean"), False)
            clean_check, _ = check_data(clean, CONSOLE)
            recipe, planted = make(Path(folder, "planted"), True)
            planted_check, _ = check_data(recipe, CONSOLE)
        data[name] = {
            "examples": sum(clean_check.about["sizes"].values()),
            "without_planted_faults": {
                finding.kind: finding.count for finding in clean_check.findings
            },
            "rows": count_findings(planted, planted_check),
        }
        print(json.dumps(data[name], indent=2), flush=True)
    command = "python benchmarks/planted.py --weights=... --bert=... --reviews=..."
    write_results("planted", command, {"data": data})


def count_findings(planted: dict[str, set[str]], checked: Checked) -> list[dict[str, Any]]:
    """Return for each fault how many examples were planted, found, missed and wrongly flagged.

    Args:
      planted: Ids of the planted examples per fault, and under `PARTNERS` those of the originals.
      checked: The outcome of the check.
    """
    rows = []
    for fault, kinds in KINDS.items():
        if fault not in planted:
            continue
        findings = [finding for finding in checked.findings if finding.kind in kinds]
        flagged = {
            example.id for finding in findings for group in finding.groups for example in group
        }
        ids = planted[fault]
        count = len(ids & flagged)
        if any(finding.kind == "empty texts" for finding in findings):
            count = int(findings[0].what.split()[0])  # this finding lists no examples
        # The check names the originals of planted duplicates too; they are not false alarms.
        expected = ids | planted[PARTNERS] if fault in (EXACT, NEAR) else ids
        others = flagged - expected
        rows.append(
            {
                "fault": fault,
                "planted": len(ids),
                "found": count,
                "missed": len(ids) - count,
                "others_named": len(others),
            }
        )
    return rows


def flowers(folder: Path, plant: bool) -> tuple[Recipe, dict[str, set[str]]]:
    """Write tf_flowers as split and class folders; return a recipe and the planted faults."""
    builder = tfds.builder("tf_flowers")
    builder.download_and_prepare()
    raw = builder.as_dataset(split="train", decoders={"image": tfds.decode.SkipDecoding()})
    names = builder.info.features["label"].names
    rng = np.random.default_rng(0)
    examples = [(photo["image"].numpy(), int(photo["label"])) for photo in raw]
    in_test = set(rng.permutation(len(examples))[: len(examples) // 5].tolist())
    train = [number for number in range(len(examples)) if number not in in_test]
    chosen = rng.permutation(train)
    flips = set(chosen[: round(FLIPPED * len(train))].tolist()) if plant else set()
    rest = chosen[round(FLIPPED * len(train)) :].tolist()
    planted: dict[str, set[str]] = {}

    def write(split: str, label: int, name: str, encoded: bytes) -> str:
        path = folder / split / names[label] / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
        return path.relative_to(folder).as_posix()

    ids = {}
    corrupt = set(rest[2 * COPIES : 2 * COPIES + CORRUPT]) if plant else set()
    for number, (encoded, label) in enumerate(examples):
        if number in flips:
            label = (label + 1 + number % (len(names) - 1)) % len(names)
        content = encoded[: len(encoded) // 2] if number in corrupt else encoded
        split = "test" if number in in_test else "train"
        ids[number] = write(split, label, f"{number:04d}", content)
    if plant:
        same, near = rest[:COPIES], rest[COPIES : 2 * COPIES]
        planted = {
            EXACT: {write("test", examples[n][1], f"copy-{n:04d}", examples[n][0]) for n in same},
            NEAR: {
                write("test", examples[n][1], f"near-{n:04d}", _downscale(examples[n][0]))
                for n in near
            },
            LABELS: {ids[n] for n in flips},
            UNREADABLE: {ids[n] for n in corrupt},
            PARTNERS: {ids[n] for n in (*same, *near)},
        }
    recipe = Recipe(
        task=ImageClassification(),
        data=Data(source=f"folder:{folder}"),
        backbone=Backbone(
            preset="keras:mobilenet",
            weights=_WEIGHTS.value,
            image_size=(160, 160),
            arguments={"alpha": 0.75},
        ),
        stages=STAGES,
    )
    return recipe, planted


def _downscale(encoded: bytes) -> bytes:
    """Return an image downscaled and re-encoded at lower quality."""
    pixels = tf.io.decode_jpeg(encoded)
    small = tf.image.resize(pixels, (tf.shape(pixels)[0] * 7 // 10, tf.shape(pixels)[1] * 7 // 10))
    return tf.io.encode_jpeg(tf.cast(small, tf.uint8), quality=60).numpy()


def reviews(folder: Path, plant: bool) -> tuple[Recipe, dict[str, set[str]]]:
    """Write film reviews as train.jsonl and test.jsonl; return a recipe and the planted faults."""
    rng = np.random.default_rng(0)
    texts, labels = [], []
    for label, name in enumerate(("neg", "pos")):
        lines = Path(_REVIEWS.value, f"rt-polarity.{name}").read_text(encoding="latin-1")
        chosen = [line.strip() for line in lines.splitlines() if line.strip()][: REVIEWS // 2]
        texts += chosen
        labels += [label] * len(chosen)
    order = rng.permutation(len(texts))
    test, train = order[: len(texts) // 5].tolist(), order[len(texts) // 5 :].tolist()
    splits = {
        "train": [{"text": texts[n], "label": labels[n]} for n in train],
        "test": [{"text": texts[n], "label": labels[n]} for n in test],
    }
    planted: dict[str, set[str]] = {}
    if plant:
        chosen = rng.permutation(len(train)).tolist()
        flips = chosen[: round(FLIPPED * len(train))]
        rest = chosen[len(flips) :]
        same, near = rest[:COPIES], rest[COPIES : 2 * COPIES]
        empty = rest[2 * COPIES : 2 * COPIES + CORRUPT]
        for row in flips:
            splits["train"][row]["label"] = 1 - splits["train"][row]["label"]
        planted = {
            EXACT: _copy_to_test(splits, same, lambda text: text),
            NEAR: _copy_to_test(splits, near, _edit),
            LABELS: {f"train[{row}]" for row in flips},
            UNREADABLE: {f"train[{row}]" for row in empty},
            PARTNERS: {f"train[{row}]" for row in (*same, *near)},
        }
        for row in empty:
            splits["train"][row]["text"] = " "
    folder.mkdir(parents=True)
    for split, rows in splits.items():
        content = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(content)
    recipe = Recipe(
        task=TextClassification(sequence_length=64),
        data=Data(source=f"jsonl:{folder}"),
        backbone=Backbone(preset=f"hf:{_BERT.value}"),
        stages=STAGES,
    )
    return recipe, planted


def _copy_to_test(
    splits: dict[str, list[dict[str, Any]]], rows: list[int], change: Callable[[str], str]
) -> set[str]:
    """Append changed training rows to the test split and return their ids there."""
    start = len(splits["test"])
    for row in rows:
        original = splits["train"][row]
        splits["test"].append({**original, "text": change(original["text"])})
    return {f"test[{number}]" for number in range(start, len(splits["test"]))}


def _edit(text: str) -> str:
    words = text.rstrip(" .").split()
    return " ".join(words[: len(words) // 2] + words[len(words) // 2 + 1 :]).capitalize() + " !"


if __name__ == "__main__":
    app.run(main)
