"""A button for pictures, or a line for texts, with the model's answers below. No TensorFlow."""

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
    """Shows a button to upload pictures with, or a line to write a text in.

    Without ipywidgets, which Colab has, it says how to ask in Python.
    """
    are_images = reads_images(result)
    if importlib.util.find_spec("ipywidgets") is None:
        given = '["photo.jpg"]' if are_images else '["A text."]'
        print(f"For a button: pip install ipywidgets. Or: notebook.predictions(result, {given})")
        return
    import ipywidgets
    from IPython.display import display

    below = ipywidgets.Output()

    def show(inputs: Sequence[str | Path]) -> None:
        below.clear_output(wait=True)
        with below:
            display(predictions(result, inputs))

    display(_button(ipywidgets, show) if are_images else _line(ipywidgets, show), below)


def _button(widgets: Any, show: Callable[[Sequence[Path]], None]) -> Any:
    button = widgets.FileUpload(accept="image/*", multiple=True, description="Pictures")

    def on_upload(change: Mapping[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            show(_written(change["new"], Path(folder)))

    button.observe(on_upload, names="value")
    return button


def _written(uploaded: Any, folder: Path) -> list[Path]:
    """Writes the files of a button's value into a folder; returns their paths."""
    if isinstance(uploaded, Mapping):  # ipywidgets before 8
        files = {name: each["content"] for name, each in uploaded.items()}
    else:
        files = {each["name"]: each["content"] for each in uploaded}
    paths = []
    for name, content in files.items():
        paths.append(folder / Path(name).name)  # what the browser calls it; never a way elsewhere
        paths[-1].write_bytes(bytes(content))
    return paths


def _line(widgets: Any, show: Callable[[Sequence[str]], None]) -> Any:
    line = widgets.Text(placeholder="A text, then Enter", continuous_update=False)

    def on_text(change: Mapping[str, Any]) -> None:
        if change["new"]:
            show([change["new"]])

    line.observe(on_text, names="value")
    return line
