"""The new layers that are trained on top of a backbone."""

from __future__ import annotations

import keras

LOGITS = "logits"


def classification_head(
    features_shape: tuple[int | None, ...],
    *,
    num_classes: int,
    pooling: str,
    hidden: tuple[int, ...],
    dropout: float,
) -> keras.Model:
    """Returns a model from a feature map [height, width, channels] to logits [num_classes].

    Logits rather than probabilities: the loss is exact on them, where a softmax inside the model
    would be clipped. They are float32 under every dtype policy.
    """
    features = keras.Input(features_shape, name="features")
    if pooling == "average":
        x = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    elif pooling == "max":
        x = keras.layers.GlobalMaxPooling2D(name="pool")(features)
    else:
        x = keras.layers.Flatten(name="flatten")(features)
    for number, units in enumerate(hidden, 1):
        x = keras.layers.Dense(units, activation="relu", name=f"hidden_{number}")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name=LOGITS)(x)
    return keras.Model(features, logits, name="head")


def token_head(
    features_shape: tuple[int | None, ...], *, outputs: int, dropout: float
) -> keras.Model:
    """Returns a model from features of tokens [tokens, hidden] to logits [tokens, outputs].

    They are float32 under every dtype policy.
    """
    features = keras.Input(features_shape, name="features")
    x = keras.layers.Dropout(dropout, name="dropout")(features) if dropout else features
    logits = keras.layers.Dense(outputs, dtype="float32", name=LOGITS)(x)
    return keras.Model(features, logits, name="head")


def rescaled(head: keras.Model, scale: float, offset: float) -> keras.Model:
    """Returns a head whose outputs are multiplied by `scale`, and `offset` added, in float32."""
    unit = keras.layers.Rescaling(scale, offset, dtype="float32", name="unit")
    return keras.Model(head.input, unit(head.output), name=head.name)
