"""Load the weights of a backbone from the file that a recipe names."""

from __future__ import annotations

import warnings
from pathlib import Path

import keras

from sft_keras.core.errors import BackboneError
from sft_keras.recipe.backbone import PRETRAINED, Backbone
from sft_keras.recipe.section import did_you_mean


def check_weights_file(backbone: Backbone) -> Path:
    """Return the path in `backbone.weights`.

    Raises:
      BackboneError: If the file does not exist.
    """
    path = Path(str(backbone.weights)).expanduser()
    if not path.is_file():
        hint = did_you_mean(str(backbone.weights), PRETRAINED)
        raise BackboneError(
            "`backbone.weights` must be 'pretrained', none or the path of a weights file. "
            f"Received: {backbone.weights!r}, but {path.absolute()} does not exist.{hint}"
        )
    return path


def load_weights_file(model: keras.Model, path: Path, backbone: Backbone) -> None:
    """Load a weights file into a model.

    Args:
      model: The model that `backbone` describes, whose weights are overwritten.
      path: A file from `keras.Model.save_weights`.
      backbone: The section of the recipe, for error messages.

    Raises:
      BackboneError: If the file is damaged or holds the weights of another architecture.
    """
    cause: Exception | None = None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            model.load_weights(path)
        # For nested layers that are missing from a file of an older version, Keras only warns.
        problem = "; ".join(str(warning.message) for warning in caught)
    except Exception as error:  # h5py and zipfile raise many types for a damaged file.
        problem, cause = str(error) or type(error).__name__, error
    if problem:
        raise BackboneError(
            f"The weights in {path} do not fit {backbone.preset} without its top. Expected: a "
            "file from `save_weights` of the same backbone with the same arguments. "
            f"Keras reports: {problem}"
        ) from cause
