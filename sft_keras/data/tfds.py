"""Builders of tensorflow-datasets: find one, and have its data on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sft_keras.core.errors import DataError
from sft_keras.core.network import is_online
from sft_keras.recipe.section import did_you_mean


def find_builder(name: str, data_dir: str | None) -> Any:
    """Returns the builder of a set.

    Raises:
      DataError: If it is unknown.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=str(Path(data_dir).expanduser()) if data_dir else None)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        bare = name.partition(":")[0].partition("/")[0]
        raise DataError(
            "`data.source` must name a data set that tensorflow-datasets knows or that is in its "
            f"folder. Received: 'tfds:{name}'.{did_you_mean(bare, known)}"
        ) from error
    except (ValueError, AssertionError) as error:  # a configuration or version it does not have
        reason = str(error).strip().rpartition('}": ')[2].partition("\nThe builder name")[0]
        raise DataError(
            "`data.source` must be 'tfds:NAME[/CONFIG][:VERSION]', as tensorflow-datasets has it. "
            f"Received: 'tfds:{name}'. {reason}"
        ) from error


def ensure_downloaded(builder: Any, name: str) -> None:
    """Downloads a set that is not on this machine.

    Raises:
      DataError: If that fails.
    """
    if builder.is_prepared():
        return
    expected = "`data.source` must name a data set that is on this machine or can be downloaded."
    remedy = (
        "Put it there, say where it is with --data_dir=FOLDER, or try "
        "--recipe=quickstart, which needs no network."
    )
    # Asked first, because without a network tensorflow-datasets would try again for minutes.
    if not is_online():
        raise DataError(
            f"{expected}\nReceived: 'tfds:{name}'; it is not under {builder.data_path} and there "
            f"is no network to download it.\n{remedy}"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # Each data set's own code raises what it likes.
        raise DataError(
            f"{expected}\nReceived: 'tfds:{name}'; it is not under {builder.data_path} and the "
            f"download failed: {error}\n{remedy}"
        ) from error
