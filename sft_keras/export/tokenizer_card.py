"""What somebody must know who splits texts for a file that has no tokenizer in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sft_keras.core.files import write_atomic
from sft_keras.recipe.recipe import Recipe

VOCABULARY = "vocabulary.json"


def about_tokenizer(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Writes the vocabulary, a list of pieces by id, and returns facts about the tokenizer.

    Args:
      recipe: Of a task on texts.
      folder: Where to write.
    """
    encoder = recipe.task.encoder(recipe)
    pieces = json.dumps(list(encoder.vocabulary()), ensure_ascii=False, indent=0)
    write_atomic(folder / VOCABULARY, pieces + "\n")
    special = encoder.special
    return {
        "note": "The tokenizer is in the SavedModel alone: the other files take tokens.",
        "preset": recipe.backbone.preset,
        "splits_by": type(encoder.pieces).__name__.lstrip("_"),
        "vocabulary": f"{folder.name}/{VOCABULARY}",
        "sequence_length": encoder.sequence_length,
        "special": {
            "pad": special.pad,
            "start": special.start,
            "end": special.end,
            "mask": special.mask,
        },
    }
