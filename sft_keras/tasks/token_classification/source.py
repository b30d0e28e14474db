"""Sentences with a tag for each word, from files, Python lists or made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from sft_keras.core.errors import DataError, numbered
from sft_keras.data.listing import Listing, Part, preview
from sft_keras.data.streams import indexed_stream
from sft_keras.recipe.data import Data
from sft_keras.tasks.token_classification.conll import (
    OUTSIDE,
    Sentence,
    as_iob2,
    is_tag,
    read_conll,
    scheme_of,
)
from sft_keras.tasks.token_classification.in_memory import TaggedWords

_SYNTHETIC_SENTENCES = 96
_SMALLEST_GROUP = 3  # one for each split


def tag_names(types: Sequence[str]) -> tuple[str, ...]:
    """Returns the tags of some types of entities in IOB2: "O", then "B-X", "I-X" for each."""
    return (OUTSIDE, *(f"{prefix}-{each}" for each in types for prefix in "BI"))


def list_tagged(data: Data, seed: int) -> Listing:
    """Lists the sentences of a source; the classes are the types of entities.

    Raises:
      DataError: If the source is not there or does not hold tagged words.
    """
    kind, _, name = data.source.partition(":") if isinstance(data.source, str) else ("", "", "")
    if isinstance(data.source, TaggedWords):
        sentences, scheme = _listed(data.source)
    elif kind == "conll":
        sentences, scheme = read_conll(name)
    else:
        sentences, scheme = _synthetic(name, seed), "IOB2"
    types = sorted(
        {
            tag.partition("-")[2]
            for split in sentences.values()
            for sentence in split
            for tag in sentence.tags
            if tag != OUTSIDE
        }
    )
    if not types:
        raise DataError(
            f"The source {data.source!r} must tag entities, as B-TYPE. Received: "
            f"{sum(map(len, sentences.values()))} sentences in which every word is tagged "
            f"{OUTSIDE!r}."
        )
    parts = {split: _part(each, types) for split, each in sentences.items()}
    return Listing(tuple(types), parts, facts={"texts": 1, "dropped": {}, "scheme": scheme})


def _part(sentences: Sequence[Sentence], types: Sequence[str]) -> Part:
    """Returns sentences as a part; see `Examples.stream` for its elements."""
    number = {name: index for index, name in enumerate(tag_names(types))}
    tags = [[number[tag] for tag in sentence.tags] for sentence in sentences]
    occurrences = np.zeros((len(sentences), len(types)), np.int64)
    for row, sentence in enumerate(sentences):
        for tag in sentence.tags:
            if tag.startswith("B-"):
                occurrences[row, types.index(tag[2:])] += 1

    def stream(positions: np.ndarray, seed: tf.Tensor | None) -> tf.data.Dataset:
        words = tf.ragged.constant(
            [sentences[each].words for each in positions], ragged_rank=1, dtype=tf.string
        )
        own_tags = tf.ragged.constant(
            [tags[each] for each in positions], ragged_rank=1, dtype=tf.int32
        )
        return indexed_stream(
            len(positions),
            seed,
            lambda index: {"words": words[index], "tags": own_tags[index]},
        )

    return Part(
        tuple(sentence.name for sentence in sentences), _groups(occurrences), stream, occurrences
    )


def _groups(occurrences: np.ndarray) -> np.ndarray:
    """Returns 1 for sentences with an entity and 0 for others, by which splits are stratified."""
    groups = (occurrences.sum(axis=1) > 0).astype(np.int64)
    is_small = np.bincount(groups, minlength=2) < _SMALLEST_GROUP
    return np.zeros_like(groups) if is_small.any() else groups


def _listed(given: TaggedWords) -> tuple[dict[str, list[Sentence]], str]:
    faults = given.faults()
    wrong = Counter(
        tag for _, tags in given.given().values() for own in tags for tag in own if not is_tag(tag)
    )
    if wrong:
        faults.append(
            f"Tags must be O, or B-TYPE or the like. Received: {preview(list(map(repr, wrong)))}."
        )
    if faults:
        raise DataError(numbered(f"The sentences cannot be trained on: {given!r}.", faults))
    scheme = scheme_of(own for _, tags in given.given().values() for own in tags)
    found = {
        split: [
            Sentence(f"{split}[{number}]", tuple(words), tuple(as_iob2(own)))
            for number, (words, own) in enumerate(zip(*pair))
        ]
        for split, pair in given.given().items()
    }
    return found, scheme


def _synthetic(num_types: str, seed: int) -> Mapping[str, list[Sentence]]:
    """Makes sentences of random letters, in which doubled capitals are entities."""
    if not num_types.isdecimal() or not 1 <= int(num_types) <= 13:
        raise DataError(
            "`data.source` must be 'synthetic:NUM_TYPES' with a number from 1 to 13. "
            f"Received: 'synthetic:{num_types}'."
        )
    draw = np.random.default_rng(seed)
    found = []
    for number in range(_SYNTHETIC_SENTENCES):
        words, tags = [], []
        for _ in range(draw.integers(1, 4)):
            for _ in range(draw.integers(1, 4)):
                words.append("".join(draw.choice(list("nopqrstuvwxyz"), draw.integers(1, 6))))
                tags.append(OUTSIDE)
            letter = chr(ord("A") + draw.integers(int(num_types)))
            length = draw.integers(1, 3)
            words += [2 * letter] * length
            tags += [f"B-{letter}", f"I-{letter}"][:length]
        found.append(Sentence(f"synthetic[{number}]", tuple(words), tuple(tags)))
    return {"train": found}
