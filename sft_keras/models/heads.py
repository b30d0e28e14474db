"""The new layers that are trained on top of a backbone.

A head maps the backbone's features to logits, not probabilities: the loss is exact on logits, while
a softmax inside the model would have to be clipped. Logits are float32 under every dtype policy.
"""

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
    """Return a head that classifies a feature map.

    Args:
      features_shape: (height, width, channels), without the batch dimension.
      num_classes: The number of classes.
      pooling: "average" or "max" over height and width, or "flatten".
      hidden: Units of the hidden layers with ReLU, from input to output; may be empty.
      dropout: Dropout rate before the last layer, 0 for none.

    Returns:
      A model from float [batch, height, width, channels] to logits, float32 [batch, num_classes].

    Example:

    ```python
    head = classification_head(
        (7, 7, 512), num_classes=5, pooling="average", hidden=(), dropout=0.2
    )
    ```
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
    """Return a head that applies one dense layer to the features of a text or of each token.

    Args:
      features_shape: (hidden,) or (tokens, hidden), without the batch dimension.
      outputs: The number of logits, per text or per token.
      dropout: Dropout rate before the dense layer, 0 for none.

    Returns:
      A model from float [batch, ..., hidden] to logits, float32 [batch, ..., outputs].
    """
    features = keras.Input(features_shape, name="features")
    x = keras.layers.Dropout(dropout, name="dropout")(features) if dropout else features
    logits = keras.layers.Dense(outputs, dtype="float32", name=LOGITS)(x)
    return keras.Model(features, logits, name="head")


def rescale_outputs(head: keras.Model, scale: float, offset: float) -> keras.Model:
    """Return a head with outputs `head(x) * scale + offset`, float32; it shares the layers."""
    unit = keras.layers.Rescaling(scale, offset, dtype="float32", name="unit")
    return keras.Model(head.input, unit(head.output), name=head.name)
