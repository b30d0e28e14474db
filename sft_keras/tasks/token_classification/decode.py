"""Tag decoding: from probabilities of tokens to the tags of words, and report examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np

from sft_keras.data.prepared import Prepared
from sft_keras.tasks.examples import MAX_MISTAKES, MAX_UNCERTAIN, ReportExamples
from sft_keras.tasks.token_classification.alignment import NO_TOKEN
from sft_keras.tasks.token_classification.metrics import EntitySpan, extract_entities
from sft_keras.tasks.token_classification.preprocess import TaggedSentence
from sft_keras.tasks.token_classification.tag_schemes import to_iob2

_MIN_PROBABILITY = 1e-12  # float32 rounds very small probabilities to 0


def tagged_sentences(prepared: Prepared) -> Sequence[TaggedSentence]:
    """Return the sentences of a prepared split."""
    return cast("Sequence[TaggedSentence]", prepared.details)


def true_tags(prepared: Prepared, tag_names: Sequence[str]) -> list[list[str]]:
    """Return the tags of the words of each sentence."""
    return [[tag_names[tag] for tag in sentence.tags] for sentence in tagged_sentences(prepared)]


def predicted_tags(
    outputs: np.ndarray, prepared: Prepared, tag_names: Sequence[str]
) -> list[list[str]]:
    """Return the most probable tag of each word, in IOB2; "O" for truncated words.

    Args:
      outputs: Probabilities, float [n, tokens, tags].
      prepared: The split.
      tag_names: The names of the tags, the first of them "O".
    """
    tags_by_sentence = []
    for row, sentence in zip(outputs, tagged_sentences(prepared), strict=True):
        has_token = sentence.first_subtokens != NO_TOKEN
        tags = np.where(has_token, row[sentence.first_subtokens].argmax(axis=-1), 0)
        tags_by_sentence.append(to_iob2([tag_names[tag] for tag in tags]))
    return tags_by_sentence


def tag_loss(outputs: np.ndarray, prepared: Prepared) -> float:
    """Return the mean negative log-likelihood of the tags of the words that were not truncated."""
    losses = []
    for row, sentence in zip(outputs, tagged_sentences(prepared), strict=True):
        has_token = sentence.first_subtokens != NO_TOKEN
        probabilities = row[sentence.first_subtokens, sentence.tags][has_token]
        losses.append(-np.log(np.maximum(probabilities, _MIN_PROBABILITY)))
    return float(np.concatenate(losses).mean(dtype=np.float64))


def sentence_examples(
    outputs: np.ndarray, prepared: Prepared, tag_names: Sequence[str]
) -> ReportExamples:
    """Return the worst mistakes and the least certain sentences for the report.

    Mistakes are the sentences with a wrong entity whose true tags are least likely. Least certain
    are the sentences with the smallest margin between the two most probable tags of any word.

    Returns:
      Rows with "marked", the words joined into stretches: {"text"; "true", the type of the entity
      that the stretch belongs to, or None; "predicted", that of the predicted entity, or None;
      "right", whether both are the same entity}.
    """
    sentences = tagged_sentences(prepared)
    true = true_tags(prepared, tag_names)
    predicted = predicted_tags(outputs, prepared, tag_names)

    def example(row: int) -> dict[str, Any]:
        stretches = _marked_stretches(sentences[row].words, true[row], predicted[row])
        return {"id": prepared.examples.ids[row], "marked": list(stretches)}

    rows = range(len(sentences))
    wrong = [row for row in rows if extract_entities(true[row]) != extract_entities(predicted[row])]
    wrong.sort(key=lambda row: -_negative_log_likelihood(outputs[row], sentences[row]))
    uncertain = sorted(rows, key=lambda row: _smallest_margin(outputs[row], sentences[row]))
    return ReportExamples(
        [example(row) for row in wrong[:MAX_MISTAKES]],
        [example(row) for row in uncertain[:MAX_UNCERTAIN]],
    )


def _negative_log_likelihood(row: np.ndarray, sentence: TaggedSentence) -> float:
    """Return the negative log-likelihood of the true tags of a sentence, in nats."""
    has_token = sentence.first_subtokens != NO_TOKEN
    probabilities = np.where(has_token, row[sentence.first_subtokens, sentence.tags], 1.0)
    return float(-np.log(np.maximum(probabilities, _MIN_PROBABILITY)).sum())


def _smallest_margin(row: np.ndarray, sentence: TaggedSentence) -> float:
    """Return the smallest difference between the two most probable tags of a word."""
    first_subtokens = sentence.first_subtokens[sentence.first_subtokens != NO_TOKEN]
    ascending = np.sort(row[first_subtokens], axis=-1)
    return float((ascending[:, -1] - ascending[:, -2]).min(initial=1.0))


def _marked_stretches(
    words: Sequence[str], true: Sequence[str], predicted: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the longest stretches of words with the same true and the same predicted entity."""
    true_entities, predicted_entities = _entity_by_word(true), _entity_by_word(predicted)
    pairs = list(zip(true_entities, predicted_entities))
    start = 0
    for end in range(1, len(words) + 1):
        if end < len(words) and pairs[end] == pairs[start]:
            continue
        true_entity, predicted_entity = pairs[start]
        yield {
            "text": " ".join(words[start:end]),
            "true": true_entity.type if true_entity else None,
            "predicted": predicted_entity.type if predicted_entity else None,
            "right": true_entity == predicted_entity,
        }
        start = end


def _entity_by_word(tags: Sequence[str]) -> list[EntitySpan | None]:
    by_word: list[EntitySpan | None] = [None] * len(tags)
    for entity in extract_entities(tags):
        by_word[entity.start : entity.end] = [entity] * (entity.end - entity.start)
    return by_word
