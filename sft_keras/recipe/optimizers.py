"""The Keras optimizers that a recipe may name, with their arguments. Standard library only.

This table is a copy, so that recipes are checked without importing Keras; a test compares it with
Keras. It omits arguments that `Stage` has fields for (learning rate, weight decay, clipping, EMA,
gradient accumulation), optimizers that wrap another one, and those that do not update each
variable by itself: Muon treats layers by their names, and ScheduleFreeAdamW must swap the weights
for each evaluation.
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
"""{name: keys that `Stage.optimizer_arguments` may have}."""
