"""Metrics of a masked language model, and its most confident mistakes for the report."""

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
from sft_keras.tasks.masked_lm.masking import IGNORE_INDEX

_MAX_EXPONENT = 700.0  # exp(710) overflows float64


@dataclasses.dataclass(frozen=True)
class MaskedTokenPredictions:
    """Predictions for the m masked tokens of a split, without the distributions over all tokens.

    Attributes:
      rows: int64 [m], the position in the split of the text of each token.
      targets: int64 [m], the original ids.
      predicted: int64 [m], the most probable ids.
      log_likelihoods: float32 [m], natural logarithm of the probability of the target.
      probabilities: float32 [m], probability of the most probable id.
      model: The model that made the predictions.
    """

    rows: np.ndarray
    targets: np.ndarray
    predicted: np.ndarray
    log_likelihoods: np.ndarray
    probabilities: np.ndarray
    model: keras.Model = dataclasses.field(repr=False)


def predict_masked_tokens(
    model: keras.Model, batches: tf.data.Dataset, devices: Devices = ONE_DEVICE
) -> MaskedTokenPredictions:
    """Predict the masked tokens of a split.

    Args:
      model: Maps inputs to probabilities, float32 [batch, positions, vocabulary].
      batches: (inputs, targets) in stored order, see `masked_evaluation_batches`.
      devices: The devices that compute the predictions.
    """

    def predict(batch: tuple[dict[str, tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, ...]:
        inputs, targets = batch
        probabilities = model(inputs, training=False)
        likelihoods = tf.gather(probabilities, tf.maximum(targets, 0), batch_dims=2)
        # Never 0, whose logarithm would make the mean of all infinite.
        log_likelihoods = tf.math.log(tf.maximum(likelihoods, np.finfo(np.float32).tiny))
        return (
            targets,
            tf.argmax(probabilities, axis=-1),
            log_likelihoods,
            tf.reduce_max(probabilities, axis=-1),
        )

    predict_batch = devices.make_predict_function(predict, batches.element_spec)
    parts, first_row = [], 0
    for batch in batches:
        columns = [column.numpy() for column in predict_batch(batch)]
        rows, positions = np.nonzero(columns[0] != IGNORE_INDEX)
        parts.append((rows + first_row, *(column[rows, positions] for column in columns)))
        first_row += len(columns[0])
    rows, targets, predicted, log_likelihoods, probabilities = map(np.concatenate, zip(*parts))
    return MaskedTokenPredictions(rows, targets, predicted, log_likelihoods, probabilities, model)


def masked_lm_metrics(
    predictions: MaskedTokenPredictions, num_texts: int, seed: int
) -> dict[str, Any]:
    """Return the metrics of a split as plain values.

    Args:
      predictions: The predictions for its masked tokens.
      num_texts: Number of texts in the split.
      seed: Seed of the bootstrap.

    Returns:
      "examples", the number of texts; "tokens", that of masked tokens; "loss", the mean negative
      log-likelihood per masked token in nats; "perplexity", its exponential (not comparable with
      that of a left-to-right language model); and "accuracy" as {"value", "low", "high"}, with a
      95 % percentile bootstrap interval. The bootstrap resamples whole texts, because the tokens of
      a text are not independent (Efron & Tibshirani 1993, chapter 13).
    """
    is_correct = predictions.predicted == predictions.targets
    loss = -float(predictions.log_likelihoods.astype(np.float64).mean())
    correct_per_text = np.bincount(predictions.rows, is_correct, minlength=num_texts)
    tokens_per_text = np.bincount(predictions.rows, minlength=num_texts)

    def accuracy(texts: np.ndarray) -> dict[str, float]:
        return {"accuracy": correct_per_text[texts].sum() / max(1, tokens_per_text[texts].sum())}

    interval = bootstrap_intervals(accuracy, num_texts, seed)["accuracy"]
    return {
        "examples": num_texts,
        "tokens": len(is_correct),
        "loss": loss,
        # A diverged model gets a huge perplexity instead of an overflow error.
        "perplexity": math.exp(min(loss, _MAX_EXPONENT)),
        "accuracy": {"value": float(is_correct.mean()), **interval},
    }


def masked_token_examples(
    predictions: MaskedTokenPredictions, prepared: Prepared, vocabulary: Sequence[str]
) -> ReportExamples:
    """Return the most confident mistakes, each with its whole text."""
    wrong = np.flatnonzero(predictions.predicted != predictions.targets)
    by_confidence = np.argsort(-predictions.probabilities[wrong], kind="stable")
    most_confident = wrong[by_confidence][:MAX_MISTAKES]
    texts = texts_of(prepared, set(predictions.rows[most_confident].tolist()))
    mistakes = [
        {
            "id": prepared.examples.ids[predictions.rows[token]],
            "true": vocabulary[predictions.targets[token]],
            "predicted": vocabulary[predictions.predicted[token]],
            "probability": float(predictions.probabilities[token]),
            "text": texts[int(predictions.rows[token])],
        }
        for token in most_confident
    ]
    return ReportExamples(mistakes)
