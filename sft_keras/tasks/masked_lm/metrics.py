"""How well a masked language model tells masked tokens, and its most confident mistakes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.data.prepared import Prepared
from sft_keras.distributed.devices import ONE_DEVICE, Devices
from sft_keras.evaluation.bootstrap import bootstrap_intervals
from sft_keras.tasks.examples import MAX_MISTAKES, ReportExamples, texts_of
from sft_keras.tasks.masked_lm.masking import UNUSED


@dataclasses.dataclass(frozen=True)
class MaskedAnswers:
    """What a model said of the masked tokens of a split; probabilities of all tokens are not kept.

    Attributes:
      rows: int64 [m], in which text each of the m masked tokens stands.
      targets: int64 [m], their ids.
      predicted: int64 [m], the most probable ids.
      log_likelihoods: float32 [m], the logarithm of the target's probability.
      probabilities: float32 [m], that of the most probable.
      model: Which gave these answers.
    """

    rows: np.ndarray
    targets: np.ndarray
    predicted: np.ndarray
    log_likelihoods: np.ndarray
    probabilities: np.ndarray
    model: keras.Model = dataclasses.field(repr=False)


def masked_answers(
    model: keras.Model, batches: tf.data.Dataset, devices: Devices = ONE_DEVICE
) -> MaskedAnswers:
    """Asks a model about the masked tokens of (inputs, targets) batches.

    Args:
      model: From inputs to probabilities, float32 [batch, places, tokens].
      batches: In stored order.
      devices: What computes the answers.
    """

    def answer(batch: tuple[dict[str, tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, ...]:
        inputs, targets = batch
        probabilities = model(inputs, training=False)
        likelihoods = tf.gather(probabilities, tf.maximum(targets, 0), batch_dims=2)
        # Never 0, of which the logarithm would spoil the mean of all.
        logarithms = tf.math.log(tf.maximum(likelihoods, np.finfo(np.float32).tiny))
        return (
            targets,
            tf.argmax(probabilities, axis=-1),
            logarithms,
            tf.reduce_max(probabilities, axis=-1),
        )

    ask = devices.make_predict_function(answer, batches.element_spec)
    parts, first = [], 0
    for batch in batches:
        columns = [column.numpy() for column in ask(batch)]
        rows, places = np.nonzero(columns[0] != UNUSED)
        parts.append((rows + first, *(column[rows, places] for column in columns)))
        first += len(columns[0])
    return MaskedAnswers(*map(np.concatenate, zip(*parts)), model)


def masked_lm_figures(given: MaskedAnswers, texts: int, seed: int) -> dict[str, Any]:
    """Returns the figures of a split as plain values.

    Args:
      given: The answers.
      texts: How many there are in the split.
      seed: Of the bootstrap.

    Returns:
      "loss", the mean negative log-likelihood of a masked token (natural logarithm), "perplexity",
      its exponential, and "accuracy" with a 95 % percentile bootstrap interval, for which whole
      texts are drawn, since tokens of one text are alike (Efron & Tibshirani 1993, chapter 13).
    """
    right = given.predicted == given.targets
    loss = -float(given.log_likelihoods.astype(np.float64).mean())
    hits = np.bincount(given.rows, right, minlength=texts)
    totals = np.bincount(given.rows, minlength=texts)

    def share(chosen: np.ndarray) -> dict[str, float]:
        return {"accuracy": hits[chosen].sum() / max(1, totals[chosen].sum())}

    interval = bootstrap_intervals(share, texts, seed)["accuracy"]
    return {
        "examples": texts,
        "tokens": len(right),
        "loss": loss,
        # What is past all bounds is written as such, and not an error.
        "perplexity": math.exp(min(loss, 700.0)),
        "accuracy": {"value": float(right.mean()), **interval},
    }


def masked_examples(
    given: MaskedAnswers, prepared: Prepared, vocabulary: Sequence[str]
) -> ReportExamples:
    """Returns the wrong answers of highest probability, each with its whole "text"."""
    wrong = np.flatnonzero(given.predicted != given.targets)
    worst = wrong[np.argsort(-given.probabilities[wrong], kind="stable")][:MAX_MISTAKES]
    texts = texts_of(prepared, set(given.rows[worst].tolist()))
    mistakes = [
        {
            "id": prepared.examples.ids[given.rows[each]],
            "true": vocabulary[given.targets[each]],
            "predicted": vocabulary[given.predicted[each]],
            "probability": float(given.probabilities[each]),
            "text": texts[int(given.rows[each])],
        }
        for each in worst
    ]
    return ReportExamples(mistakes)
