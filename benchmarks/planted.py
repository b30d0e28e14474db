"""What the check of the data finds of faults that were planted in copies of two data sets.

    python benchmarks/planted.py --weights=FILE --bert=FOLDER --reviews=FOLDER

Writes results/planted.json. Of tf_flowers (TFDS_DATA_DIR, or a network) and of film reviews a copy
is made with splits, and in it planted: 20 examples of the training split again in the test split;
20 more of them changed a little (pictures resized and encoded anew; of texts a word left out and
the punctuation changed); 5 % of the training labels flipped; and 10 files cut off in the middle, or
texts emptied. What the check finds of each is counted, what it does not, and what else it names.
The same check on the copy without planted faults tells what was there before.
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
from written import write_results

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.check.findings import Checked
from sft_keras.check.inspect import check_data
from sft_keras.core.reporter import CONSOLE
from sft_keras.tasks import ImageClassification, TextClassification

_WEIGHTS = flags.DEFINE_string("weights", "imagenet", "MobileNet's ImageNet weights without top.")
_BERT = flags.DEFINE_string(
    "bert", None, "A folder of MiniLM as Hugging Face has it.", required=True
)
_REVIEWS = flags.DEFINE_string("reviews", None, "The folder of film reviews.", required=True)

COPIES, CORRUPT, FLIPPED = 20, 10, 0.05
STAGES = (Stage(name="head", epochs=1, learning_rate=1e-3),)
REVIEWS = 2000


def main(_: list[str]) -> None:
    """Plants, checks and counts."""
    found = {}
    for name, make in (("flowers", flowers), ("film reviews", reviews)):
        with tempfile.TemporaryDirectory() as folder:
            clean, _ = make(Path(folder, "clean"), False)
            before, _ = check_data(clean, CONSOLE)
            recipe, planted = make(Path(folder, "planted"), True)
            after, _ = check_data(recipe, CONSOLE)
        found[name] = {
            "examples": sum(before.about["sizes"].values()),
            "without_planted_faults": {each.kind: each.count for each in before.findings},
            "rows": rows(planted, after),
        }
        print(json.dumps(found[name], indent=2), flush=True)
    made_by = "python benchmarks/planted.py --weights=... --bert=... --reviews=..."
    write_results("planted", made_by, {"data": found})


def rows(planted: dict[str, set[str]], checked: Checked) -> list[dict[str, Any]]:
    """Returns for each kind of fault how many were planted, found and named without being one."""
    kinds = {
        "the same in train and test": ("same across splits",),
        "nearly the same in train and test": ("nearly the same across splits",),
        "flipped labels": ("likely wrong labels",),
        "cut off or empty": ("unreadable", "empty texts"),
    }
    named = {
        fault: {
            each.id
            for finding in checked.findings
            if finding.kind in found_as
            for group in finding.groups
            for each in group
        }
        for fault, found_as in kinds.items()
    }
    result = []
    for fault, ids in planted.items():
        # A copy whose original was flipped, or the like, may be named for another reason.
        partners = set(planted["partners"]) if "same" in fault else set()
        if fault == "partners":
            continue
        counted = [each for each in checked.findings if each.kind in kinds[fault]]
        count = len(ids & named[fault])
        if fault == "cut off or empty" and any(each.kind == "empty texts" for each in counted):
            count = int(counted[0].what.split()[0])  # it has no names
        others = named[fault] - ids - partners
        result.append(
            {
                "fault": fault,
                "planted": len(ids),
                "found": count,
                "missed": len(ids) - count,
                "others_named": len(others),
            }
        )
    return result


def flowers(folder: Path, plant: bool) -> tuple[Recipe, dict[str, set[str]]]:
    """Writes tf_flowers as split and class folders; returns a recipe and what was planted."""
    builder = tfds.builder("tf_flowers")
    builder.download_and_prepare()
    raw = builder.as_dataset(split="train", decoders={"image": tfds.decode.SkipDecoding()})
    names = builder.info.features["label"].names
    draw = np.random.default_rng(0)
    examples = [(each["image"].numpy(), int(each["label"])) for each in raw]
    in_test = set(draw.permutation(len(examples))[: len(examples) // 5].tolist())
    train = [number for number in range(len(examples)) if number not in in_test]
    chosen = draw.permutation(train)
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
        given = (label + 1 + number % (len(names) - 1)) % len(names) if number in flips else label
        data = encoded[: len(encoded) // 2] if number in corrupt else encoded
        ids[number] = write("test" if number in in_test else "train", given, f"{number:04d}", data)
    if plant:
        same, near = rest[:COPIES], rest[COPIES : 2 * COPIES]
        planted = {
            "the same in train and test": {
                write("test", examples[n][1], f"copy-{n:04d}", examples[n][0]) for n in same
            },
            "nearly the same in train and test": {
                write("test", examples[n][1], f"near-{n:04d}", _changed(examples[n][0]))
                for n in near
            },
            "flipped labels": {ids[n] for n in flips},
            "cut off or empty": {ids[n] for n in corrupt},
            "partners": {ids[n] for n in (*same, *near)},
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


def _changed(encoded: bytes) -> bytes:
    """Returns a picture made smaller and encoded anew, at lower quality."""
    pixels = tf.io.decode_jpeg(encoded)
    small = tf.image.resize(pixels, (tf.shape(pixels)[0] * 7 // 10, tf.shape(pixels)[1] * 7 // 10))
    return tf.io.encode_jpeg(tf.cast(small, tf.uint8), quality=60).numpy()


def reviews(folder: Path, plant: bool) -> tuple[Recipe, dict[str, set[str]]]:
    """Writes film reviews as train.jsonl and test.jsonl; returns a recipe and what was planted."""
    draw = np.random.default_rng(0)
    texts, labels = [], []
    for label, name in enumerate(("neg", "pos")):
        lines = Path(_REVIEWS.value, f"rt-polarity.{name}").read_text(encoding="latin-1")
        chosen = [line.strip() for line in lines.splitlines() if line.strip()][: REVIEWS // 2]
        texts += chosen
        labels += [label] * len(chosen)
    order = draw.permutation(len(texts))
    test, train = order[: len(texts) // 5].tolist(), order[len(texts) // 5 :].tolist()
    written = {
        "train": [{"text": texts[n], "label": labels[n]} for n in train],
        "test": [{"text": texts[n], "label": labels[n]} for n in test],
    }
    planted: dict[str, set[str]] = {}
    if plant:
        chosen = draw.permutation(len(train)).tolist()
        flips = chosen[: round(FLIPPED * len(train))]
        rest = chosen[len(flips) :]
        same, near = rest[:COPIES], rest[COPIES : 2 * COPIES]
        empty = rest[2 * COPIES : 2 * COPIES + CORRUPT]
        for row in flips:
            written["train"][row]["label"] = 1 - written["train"][row]["label"]
        planted = {
            "the same in train and test": _added(written, same, lambda text: text),
            "nearly the same in train and test": _added(written, near, _edited),
            "flipped labels": {f"train[{row}]" for row in flips},
            "cut off or empty": {f"train[{row}]" for row in empty},
            "partners": {f"train[{row}]" for row in (*same, *near)},
        }
        for row in empty:
            written["train"][row]["text"] = " "
    folder.mkdir(parents=True)
    for split, lines in written.items():
        rows_of_split = (json.dumps(line) for line in lines)
        (folder / f"{split}.jsonl").write_text("\n".join(rows_of_split) + "\n")
    recipe = Recipe(
        task=TextClassification(sequence_length=64),
        data=Data(source=f"jsonl:{folder}"),
        backbone=Backbone(preset=f"hf:{_BERT.value}"),
        stages=STAGES,
    )
    return recipe, planted


def _added(
    written: dict[str, list[dict[str, Any]]], rows: list[int], change: Callable[[str], str]
) -> set[str]:
    """Adds training rows to the test split; returns what they are called there."""
    start = len(written["test"])
    for row in rows:
        original = written["train"][row]
        written["test"].append({**original, "text": change(original["text"])})
    return {f"test[{number}]" for number in range(start, len(written["test"]))}


def _edited(text: str) -> str:
    words = text.rstrip(" .").split()
    return " ".join(words[: len(words) // 2] + words[len(words) // 2 + 1 :]).capitalize() + " !"


if __name__ == "__main__":
    app.run(main)
