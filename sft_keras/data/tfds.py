"""Find tensorflow-datasets builders and download their data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sft_keras.core.errors import DataError
from sft_keras.core.network import is_online
from sft_keras.recipe.section import did_you_mean


def find_builder(name: str, data_dir: str | None) -> Any:
    """Return the builder of a data set.

    Args:
      name: "NAME[/CONFIG][:VERSION]".
      data_dir: The folder of tensorflow-datasets; None for its default.

    Raises:
      DataError: If the data set, configuration or version is unknown.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=str(Path(data_dir).expanduser()) if data_dir else None)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        bare = name.partition(":")[0].partition("/")[0]
        raise DataError(
            "`data.source` must name a data set of tensorflow-datasets, or one in its "
            f"folder. Received: 'tfds:{name}'.{did_you_mean(bare, known)}"
        ) from error
    except (ValueError, AssertionError) as error:  # unknown configuration or version
        reason = str(error).strip().rpartition('}": ')[2].partition("\nThe builder name")[0]
        raise DataError(
            "`data.source` must be 'tfds:NAME[/CONFIG][:VERSION]', as in tensorflow-datasets. "
            f"Received: 'tfds:{name}'. {reason}"
        ) from error


def ensure_downloaded(builder: Any, name: str) -> None:
    """Download a data set, unless it is on this machine already.

    Args:
      builder: The builder of the data set.
      name: "NAME[/CONFIG][:VERSION]", for the error message.

    Raises:
      DataError: If there is no network or the download fails.
    """
    if builder.is_prepared():
        return
    expected = "`data.source` must name a data set that is on this machine or can be downloaded."
    remedy = (
        "Put it there, name its folder with --data_dir=FOLDER, or try "
        "--recipe=quickstart, which needs no network."
    )
    # Checked first: without a network, tensorflow-datasets retries for minutes.
    if not is_online():
        raise DataError(
            f"{expected}\nReceived: 'tfds:{name}'; it is not under {builder.data_path} and there "
            f"is no network to download it.\n{remedy}"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # The code of a data set may raise anything.
        raise DataError(
            f"{expected}\nReceived: 'tfds:{name}'; it is not under {builder.data_path} and the "
            f"download failed: {error}\n{remedy}"
        ) from error
