"""Recipes that several workers must train as one process does, but where dropout is drawn."""

import numpy as np

from sft_keras import Arrays, Backbone, Checkpointing, Data, Recipe, Stage, Store, TaggedWords
from sft_keras.tasks import Augment, ImageClassification, TokenClassification

SIZES = {"train": 101, "validation": 25, "test": 9}


def coloured() -> Arrays:
    """Noisy images of 3 classes that differ in colour, 32 x 32, of sizes that nothing divides."""
    random, splits = np.random.default_rng(0), {}
    for name, size in SIZES.items():
        labels = np.arange(size) % 3
        images = random.integers(0, 120, (size, 32, 32, 3))
        images[np.arange(size), :, :, labels] += 100
        splits[name] = (images.astype(np.uint8), labels)
    return Arrays(**splits)


def tagged() -> TaggedWords:
    """Sentences of one to nine words, of which those of the letter q are names."""
    draw, splits = np.random.default_rng(0), {}
    for name, size in SIZES.items():
        sentences, tags = [], []
        for _ in range(size):
            words = ["".join(draw.choice(list("abcq"), 3)) for _ in range(draw.integers(1, 10))]
            words[0] = "qqq"
            sentences.append(words)
            tags.append(["B-NAME" if set(word) == {"q"} else "O" for word in words])
        splits[name] = (sentences, tags)
    return TaggedWords(**splits)


HEAD = {"name": "head", "epochs": 2, "learning_rate": 1e-2}
TOP = {"name": "top", "epochs": 2, "learning_rate": 1e-3, "unfreeze": 1}
STAGES = {
    # Adam divides by the size of a gradient, and makes of the rounding of one near 0 a step.
    "plain": ({}, {"optimizer": "sgd"}),
    "tokens": ({}, {"optimizer": "sgd", "learning_rate": 1e-2}),
    "remembering": (
        {"ema": 0.7},
        {
            "layer_decay": 0.5,
            "weight_decay": 1e-2,
            "l2": 1e-3,
            "clip_norm": 1.0,
            "ema": 0.5,
            "accumulate": 2,
        },
    ),
    "averaging": (
        {"ema": 0.7},
        {"layer_decay": 0.5, "weight_decay": 1e-2, "l2": 1e-3, "clip_norm": 1.0, "ema": 0.5},
    ),
    "found_rate": ({"learning_rate": "auto", "epochs": 1}, {"epochs": 1}),
    "on_disk": ({"epochs": 1}, {"epochs": 1}),
    "endless": ({"epochs": 100_000}, {}),
    "batch_norm": ({}, {"train_batch_norm": True, "optimizer": "sgd"}),
}


def plan(name: str, preset: str) -> Recipe:
    """Returns a recipe on a tiny network."""
    head, top = STAGES[name]
    if name == "tokens":  # the loss of a batch is a mean over tokens, of which texts differ
        task, source = TokenClassification(sequence_length=32, dropout=0.0), tagged()
        backbone = Backbone(preset="tiny:bert", weights=None, arguments={"dropout": 0.0})
    else:
        dropout = 0.3 if name == "found_rate" else 0.0
        augment = Augment(flip=name == "on_disk")
        task, source = ImageClassification(dropout=dropout, augment=augment), coloured()
        scale = {"scale": 1 / 128, "offset": -1.0}
        backbone = Backbone(preset=f"hub:{preset}", image_size=(32, 32), arguments=scale)
    return Recipe(
        task=task,
        data=Data(source=source, batch_size=8),
        backbone=backbone,
        stages=(Stage(**HEAD | head), Stage(**TOP | top)),
        cache={"batch_norm": "off", "on_disk": "disk"}.get(name, "memory"),
        store=Store(batch_size=8, views=2 if name == "on_disk" else None),
        checkpoints=Checkpointing(every_steps=5),
    )
