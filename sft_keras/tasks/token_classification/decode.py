"""From what a model gives for tokens to the tags of words, and where these are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sft_keras.data.prepared import Prepared
from sft_keras.tasks.examples import MAX_MISTAKES, MAX_UNCERTAIN, ReportExamples
from sft_keras.tasks.token_classification.alignment import NO_PLACE
from sft_keras.tasks.token_classification.conll import as_iob2
from sft_keras.tasks.token_classification.metrics import entities_of
from sft_keras.tasks.token_classification.preprocess import TaggedText

_SMALLEST = 1e-12  # float32 gives 0 for what is merely very unlikely


def true_tags(prepared: Prepared, names: Sequence[str]) -> list[list[str]]:
    """Returns the tags of the words of each sentence."""
    return [[names[tag] for tag in each.tags] for each in prepared.details]


def predicted_tags(
    outputs: np.ndarray, prepared: Prepared, names: Sequence[str]
) -> list[list[str]]:
    """Returns the most probable tag of each word, in IOB2; "O" for words that were cut off.

    Args:
      outputs: Probabilities, float [n, tokens, tags].
      prepared: The split, whose details are a `TaggedText` each.
      names: Of the tags, the first of them "O".
    """
    found = []
    for row, text in zip(outputs, prepared.details, strict=True):
        best = np.where(text.places == NO_PLACE, 0, row[text.places].argmax(axis=-1))
        found.append(as_iob2([names[tag] for tag in best]))
    return found


def tag_loss(outputs: np.ndarray, prepared: Prepared) -> float:
    """Returns the mean negative log-likelihood of the tags of the words that were not cut off."""
    losses = [
        -np.log(np.maximum(row[text.places, text.tags][text.places != NO_PLACE], _SMALLEST))
        for row, text in zip(outputs, prepared.details, strict=True)
    ]
    return float(np.concatenate(losses).mean(dtype=np.float64))


def sentence_examples(
    outputs: np.ndarray, prepared: Prepared, names: Sequence[str]
) -> ReportExamples:
    """Returns the sentences with the least likely true tags among those with a wrong entity.

    Least certain is the sentence with the word whose two most probable tags are the closest. Each
    row has "marked", its words joined to stretches: {"text", "true": the type of the entity that
    it belongs to or None, "predicted": that of the one found there or None, "right": whether these
    are one and the same}.
    """
    truth, guesses = true_tags(prepared, names), predicted_tags(outputs, prepared, names)
    sentences = list(zip(outputs, prepared.details, strict=True))

    def shown(row: int) -> dict[str, Any]:
        words = prepared.details[row].words
        return {
            "id": prepared.examples.ids[row],
            "marked": list(_marked(words, truth[row], guesses[row])),
        }

    wrong = [
        row
        for row, (true, guess) in enumerate(zip(truth, guesses))
        if entities_of(true) != entities_of(guess)
    ]
    wrong.sort(key=lambda row: -_surprise(*sentences[row]))
    unsure = sorted(range(len(sentences)), key=lambda row: _margin(*sentences[row]))
    return ReportExamples(
        [shown(row) for row in wrong[:MAX_MISTAKES]],
        [shown(row) for row in unsure[:MAX_UNCERTAIN]],
    )


def _surprise(row: np.ndarray, text: TaggedText) -> float:
    is_there = text.places != NO_PLACE
    right = row[text.places, text.tags]
    return float(-np.log(np.maximum(np.where(is_there, right, 1.0), _SMALLEST)).sum())


def _margin(row: np.ndarray, text: TaggedText) -> float:
    """Returns the least difference between the two most probable tags of a word."""
    read = text.places[text.places != NO_PLACE]
    best = np.sort(row[read], axis=-1)
    return float((best[:, -1] - best[:, -2]).min(initial=1.0))


def _marked(
    words: Sequence[str], true: Sequence[str], guess: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yields stretches of words that belong to the same entities, of the truth and of the guess."""
    by_word = [_entity_by_word(tags) for tags in (true, guess)]
    start = 0
    for end in range(1, len(words) + 1):
        if end < len(words) and all(each[end] == each[start] for each in by_word):
            continue
        kinds = [each[start][0] if each[start] else None for each in by_word]
        yield {
            "text": " ".join(words[start:end]),
            "true": kinds[0],
            "predicted": kinds[1],
            "right": by_word[0][start] == by_word[1][start],
        }
        start = end


def _entity_by_word(tags: Sequence[str]) -> list[tuple[str, int, int] | None]:
    found: list[tuple[str, int, int] | None] = [None] * len(tags)
    for entity in entities_of(tags):
        found[entity[1] : entity[2]] = [entity] * (entity[2] - entity[1])
    return found
