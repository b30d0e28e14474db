"""Sources of tagged sentences: CoNLL files, in-memory lists and synthetic sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from sft_keras.core.errors import DataError, numbered
from sft_keras.data.listing import Listing, Part, preview
from sft_keras.data.streams import indexed_stream
from sft_keras.recipe.data import Data
from sft_keras.tasks.token_classification.conll import read_conll
from sft_keras.tasks.token_classification.in_memory import TaggedWords
from sft_keras.tasks.token_classification.sentences import (
    RawSentence,
    Sentence,
    TaggedSentences,
    to_tagged_sentences,
)
from sft_keras.tasks.token_classification.tag_schemes import (
    DEFAULT_FORMAT,
    OUTSIDE,
    TagFormat,
    invalid_tags_hint,
)

_SYNTHETIC_SENTENCES = 96
_MAX_SYNTHETIC_TYPES = 13
_MIN_STRATUM_SIZE = 3  # one sentence for each split


def tag_names(types: Sequence[str]) -> tuple[str, ...]:
    """Return the IOB2 tags of some entity types: "O", then "B-X" and "I-X" for each type X."""
    return (OUTSIDE, *(f"{prefix}-{name}" for name in types for prefix in "BI"))


def list_tagged_sentences(data: Data, seed: int, tag_format: TagFormat = DEFAULT_FORMAT) -> Listing:
    """List the sentences of a source; the classes are the entity types.

    Args:
      data: The `data` section of the recipe.
      seed: Seed of synthetic sentences.
      tag_format: How the tags are written in the source.

    Raises:
      DataError: If the source is missing or does not hold tagged sentences.
    """
    read = _read(data, seed, tag_format)
    types = sorted(
        {
            tag.partition("-")[2]
            for sentences in read.by_split.values()
            for sentence in sentences
            for tag in sentence.tags
            if tag != OUTSIDE
        }
    )
    if not types:
        num_sentences = sum(map(len, read.by_split.values()))
        raise DataError(
            f"The source {data.source!r} must tag at least one entity, as B-TYPE. Received: "
            f"{num_sentences} sentences in which every word is tagged {OUTSIDE!r}."
        )
    parts = {split: _part(sentences, types) for split, sentences in read.by_split.items()}
    facts = {"texts": 1, "dropped": dict(read.dropped), "scheme": read.scheme}
    return Listing(tuple(types), parts, facts={**facts, "notes": list(read.notes)})


def _read(data: Data, seed: int, tag_format: TagFormat) -> TaggedSentences:
    if isinstance(data.source, TaggedWords):
        return _read_in_memory(data.source, tag_format, data.on_fault == "drop")
    kind, _, name = str(data.source).partition(":")
    if kind == "conll":
        drop_faulty = data.on_fault == "drop"
        return read_conll(name, tag_format, data.columns, drop_faulty, data.encoding)
    return TaggedSentences(_synthetic(name, seed), "IOB2")


def _part(sentences: Sequence[Sentence], types: Sequence[str]) -> Part:
    """Return sentences as a part; the elements of its stream hold "words" and "tags"."""
    tag_indices = {name: index for index, name in enumerate(tag_names(types))}
    tags = [[tag_indices[tag] for tag in sentence.tags] for sentence in sentences]
    occurrences = np.zeros((len(sentences), len(types)), np.int64)
    for row, sentence in enumerate(sentences):
        for tag in sentence.tags:
            if tag.startswith("B-"):
                occurrences[row, types.index(tag[2:])] += 1

    def stream(positions: np.ndarray, seed: tf.Tensor | None) -> tf.data.Dataset:
        words = tf.ragged.constant(
            [sentences[position].words for position in positions], ragged_rank=1, dtype=tf.string
        )
        word_tags = tf.ragged.constant(
            [tags[position] for position in positions], ragged_rank=1, dtype=tf.int32
        )
        return indexed_stream(
            len(positions), seed, lambda index: {"words": words[index], "tags": word_tags[index]}
        )

    names = tuple(sentence.name for sentence in sentences)
    return Part(names, _strata(occurrences), stream, occurrences)


def _strata(occurrences: np.ndarray) -> np.ndarray:
    """Return the labels to stratify by, int64 [n]: 1 for sentences with an entity, 0 for others."""
    strata = (occurrences.sum(axis=1) > 0).astype(np.int64)
    is_small = np.bincount(strata, minlength=2) < _MIN_STRATUM_SIZE
    return np.zeros_like(strata) if is_small.any() else strata


def _read_in_memory(
    source: TaggedWords, tag_format: TagFormat, drop_faulty: bool
) -> TaggedSentences:
    splits = source.given()
    faults = source.faults()
    counts: Counter[object] = Counter()
    if not faults:
        for _, tags_by_sentence in splits.values():
            counts.update(tag for tags in tags_by_sentence for tag in tags)
    invalid = [tag for tag in counts if tag_format.parse(tag) is None]
    if invalid:
        expected = "O, or such as B-TYPE" if tag_format.scheme == "auto" else "types without prefix"
        faults.append(
            f"Tags must be {expected}. Received: {preview(list(map(repr, invalid)))}."
            f"{invalid_tags_hint(counts, tag_format)}"
        )
    if faults:
        raise DataError(numbered(f"The sentences cannot be used: {source!r}.", faults))
    raw = {
        split: [
            RawSentence(
                origin=f"{split}[{index}]",
                noun="word",
                words=list(words),
                tags=[tag_format.parse(tag) or "" for tag in tags],
                numbers=list(range(len(words))),
            )
            for index, (words, tags) in enumerate(zip(sentences, tags_by_sentence))
        ]
        for split, (sentences, tags_by_sentence) in splits.items()
    }
    return to_tagged_sentences(raw, "IO" if tag_format.scheme == "IO" else None, drop_faulty)


def _synthetic(num_types: str, seed: int) -> dict[str, list[Sentence]]:
    """Make sentences of random lower-case words, in which doubled capitals are entities."""
    if not num_types.isdecimal() or not 1 <= int(num_types) <= _MAX_SYNTHETIC_TYPES:
        raise DataError(
            "`data.source` must be 'synthetic:NUM_TYPES' with a number from 1 to "
            f"{_MAX_SYNTHETIC_TYPES}. Received: 'synthetic:{num_types}'."
        )
    rng = np.random.default_rng(seed)
    sentences = []
    for index in range(_SYNTHETIC_SENTENCES):
        words: list[str] = []
        tags: list[str] = []
        for _ in range(rng.integers(1, 4)):
            for _ in range(rng.integers(1, 4)):
                words.append("".join(rng.choice(list("nopqrstuvwxyz"), rng.integers(1, 6))))
                tags.append(OUTSIDE)
            letter = chr(ord("A") + rng.integers(int(num_types)))
            length = rng.integers(1, 3)
            words += [2 * letter] * length
            tags += [f"B-{letter}", f"I-{letter}"][:length]
        sentences.append(Sentence(f"synthetic[{index}]", tuple(words), tuple(tags)))
    return {"train": sentences}
