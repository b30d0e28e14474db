"""Keras' optimizers by the names recipes use, and what each takes. Standard library only.

A copy, so that a mistake in a recipe is answered without importing Keras; a test compares it with
Keras itself. Left out is what a stage has fields of its own for (learning rate, weight decay,
clipping, EMA, accumulation), the optimizers that wrap another one, and those that are more than a
rule for one variable: Muon, which treats layers by their names, and ScheduleFreeAdamW, whose
weights must be swapped for each evaluation.
"""

from __future__ import annotations

_ADAM = ("beta_1", "beta_2", "epsilon")

OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "adadelta": ("rho", "epsilon"),
    "adafactor": ("beta_2_decay", "epsilon_1", "epsilon_2", "clip_threshold", "relative_step"),
    "adagrad": ("initial_accumulator_value", "epsilon"),
    "adam": (*_ADAM, "amsgrad"),
    "adamax": _ADAM,
    "adamw": (*_ADAM, "amsgrad"),
    "ftrl": (
        "learning_rate_power",
        "initial_accumulator_value",
        "l1_regularization_strength",
        "l2_regularization_strength",
        "l2_shrinkage_regularization_strength",
        "beta",
    ),
    "lamb": _ADAM,
    "lion": ("beta_1", "beta_2"),
    "nadam": _ADAM,
    "rmsprop": ("rho", "momentum", "epsilon", "centered"),
    "sgd": ("momentum", "nesterov"),
}
