"""A widget that predicts: an upload button for images, or a text field. Imports no TensorFlow."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_keras.notebook.fragments import predictions, reads_images

if TYPE_CHECKING:
    from sft_keras.runs.result import Result


def ask(result: Result) -> None:
    """Display a button to upload images, or a text field, with the predictions below.

    Without ipywidgets, which Colab has, print how to predict in Python instead.

    Args:
      result: The result of a run.
    """
    are_images = reads_images(result)
    if importlib.util.find_spec("ipywidgets") is None:
        inputs = '["photo.jpg"]' if are_images else '["A text."]'
        print(
            "The widget needs ipywidgets: pip install ipywidgets. Without it, use "
            f"notebook.predictions(result, {inputs})."
        )
        return
    import ipywidgets
    from IPython.display import display

    output = ipywidgets.Output()

    def show(inputs: Sequence[str | Path]) -> None:
        output.clear_output(wait=True)
        with output:
            display(predictions(result, inputs))

    create = _upload_button if are_images else _text_field
    display(create(ipywidgets, show), output)


def _upload_button(widgets: Any, show: Callable[[Sequence[Path]], None]) -> Any:
    button = widgets.FileUpload(accept="image/*", multiple=True, description="Images")

    def on_upload(change: Mapping[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            show(_write_uploads(change["new"], Path(folder)))

    button.observe(on_upload, names="value")
    return button


def _write_uploads(uploads: Any, folder: Path) -> list[Path]:
    """Write the files of an upload button into a folder, and return their paths."""
    if isinstance(uploads, Mapping):  # ipywidgets before 8
        files = {name: upload["content"] for name, upload in uploads.items()}
    else:
        files = {upload["name"]: upload["content"] for upload in uploads}
    paths = []
    for name, content in files.items():
        paths.append(folder / Path(name).name)  # the browser's name, without any path
        paths[-1].write_bytes(bytes(content))
    return paths


def _text_field(widgets: Any, show: Callable[[Sequence[str]], None]) -> Any:
    field = widgets.Text(placeholder="Enter a text, then press Enter", continuous_update=False)

    def on_text(change: Mapping[str, Any]) -> None:
        if change["new"]:
            show([change["new"]])

    field.observe(on_text, names="value")
    return field
