"""Loading a backbone's weights from a file the recipe names."""

from __future__ import annotations

import warnings
from pathlib import Path

import keras

from sft_keras.core.errors import BackboneError
from sft_keras.recipe.backbone import PRETRAINED, Backbone
from sft_keras.recipe.section import did_you_mean


def check_weights_file(backbone: Backbone) -> Path:
    """Returns the path in `backbone.weights`.

    Raises:
      BackboneError: If there is no such file.
    """
    path = Path(str(backbone.weights)).expanduser()
    if not path.is_file():
        hint = did_you_mean(str(backbone.weights), PRETRAINED)
        raise BackboneError(
            "`backbone.weights` must be 'pretrained', none or the path of a weights file. "
            f"Received: {backbone.weights!r}, and there is no file {path.absolute()}.{hint}"
        )
    return path


def load_weights_file(model: keras.Model, path: Path, backbone: Backbone) -> None:
    """Loads the weights file at `path` into `model`, which is what `backbone` asks for.

    Raises:
      BackboneError: If the file is damaged or holds the weights of something else.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            model.load_weights(path)
        # Keras only warns of layers inside layers that a file of an older version lacks.
        complaint = "; ".join(str(one.message) for one in caught)
    except Exception as error:  # h5py and zipfile have many for a damaged file.
        complaint, cause = str(error) or type(error).__name__, error
    else:
        cause = None
    if complaint:
        raise BackboneError(
            f"The weights in {path} do not fit {backbone.preset} without its top. Expected: a "
            "file that `save_weights` made of the same backbone with the same arguments. "
            f"Keras says: {complaint}"
        ) from cause
