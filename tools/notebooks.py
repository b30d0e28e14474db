"""Keeps the notebooks free of outputs, and runs them.

    python tools/notebooks.py --strip                  takes outputs out of them
    python tools/notebooks.py --check                  exits with 1 if one holds outputs or fails
    python tools/notebooks.py --check your_text --html=FOLDER    leaves it there with its outputs
    python tools/notebooks.py --check your_text --as_written --preset=hub:bert_tiny_en_uncased

A check takes fewer epochs than are written, see `_SHORT`, unless it is --as_written. Since it must
do without a network, your_text is given a tiny BERT of random weights, unless --preset names one.
--strip needs nothing but Python.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
REPOSITORY = "sft-keras/sft_keras"
"""Where Colab finds the notebooks; all addresses in them name it."""
SETTINGS = "parameters"
"""The tag of the cell to change; what a check changes comes behind it."""

_AT_ONCE = 2  # much of a run is Python on one core
_SECONDS_A_CELL = 900
# What is said last of a field counts.
_FEW = ("stages.head.epochs=2", "stages.top.epochs=1", "stages.top.unfreeze=1")
_SHORT = {
    "quickstart": (*_FEW, "backbone.image_size=(32, 32)"),
    "your_images": (*_FEW, "backbone.image_size=(32, 32)"),
    "your_text": _FEW,
}


def main() -> None:
    """Strips the notebooks, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of notebooks; all if left out")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--strip", action="store_true", help="take outputs out")
    wanted.add_argument("--check", action="store_true", help="run; exit 1 if one fails")
    parser.add_argument("--html", type=Path, help="a folder for notebooks with their outputs")
    parser.add_argument("--preset", help="backbone of your_text; a tiny one if left out")
    parser.add_argument("--as_written", action="store_true", help="run all epochs")
    given = parser.parse_args()
    known = notebooks()
    unknown = [name for name in given.names if name not in known]
    if unknown:
        parser.error(f"there is no notebook {', '.join(unknown)}; there are {', '.join(known)}")
    paths = [known[name] for name in given.names or known]
    if given.strip:
        for path in paths:
            path.write_text(stripped(path.read_text(encoding="utf-8")), encoding="utf-8")
        return
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if stripped(text) != text:
            sys.exit(f"{path} holds what a run left in it; run tools/notebooks.py --strip")
    if not _check(paths, given):
        sys.exit("A notebook failed.")


def notebooks() -> dict[str, Path]:
    """Returns the notebooks by name."""
    return {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def stripped(text: str) -> str:
    """Returns a notebook's file without what a run left in it, always written alike."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] == "code":
            cell |= {"execution_count": None, "outputs": []}
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def short_settings(name: str) -> list[str]:
    """Returns the lines that make a notebook's run short."""
    return [f"changes += {list(_SHORT[name])}"]


def _check(paths: Sequence[Path], given: argparse.Namespace) -> bool:
    """Runs notebooks, some at once, and says how each went; returns whether all went well."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), before)))
        os.environ["SFT_KERAS_CACHE"] = str(Path(scratch, "cache"))
        runs = []
        for path in paths:
            folder = Path(scratch, path.stem)
            folder.mkdir()
            lines = [] if given.as_written else short_settings(path.stem)
            if path.stem == "your_text":
                lines.append(f"preset = {given.preset or _tiny_preset(path, folder)!r}")
            runs.append(pool.submit(_run, path, folder, lines, given.html))
        went_well = [run.result() for run in runs]
    return all(went_well)


def _tiny_preset(path: Path, folder: Path) -> str:
    from tiny_bert import write_tiny_bert

    tiny = folder / "tiny_bert_of_random_weights"
    write_tiny_bert(tiny, path.read_text(encoding="utf-8"))
    return f"hf:{tiny.name}"


def _run(path: Path, folder: Path, lines: Sequence[str], html: Path | None) -> bool:
    """Runs a notebook in a folder, with lines added behind its settings; returns if it went well.

    Args:
      path: The notebook, which stays as it is.
      folder: Where it runs.
      lines: Of Python.
      html: Where to write it with its outputs; None for nowhere.
    """
    import nbclient
    import nbformat
    from nbclient.exceptions import CellControlSignal, DeadKernelError

    notebook = nbformat.read(path, as_version=4)
    settings = next(
        number
        for number, cell in enumerate(notebook.cells)
        if SETTINGS in cell.metadata.get("tags", ())
    )
    if lines:
        source = "\n".join(["# Added by tools/notebooks.py.", *lines])
        notebook.cells.insert(settings + 1, nbformat.v4.new_code_cell(source))
    client = nbclient.NotebookClient(
        notebook, timeout=_SECONDS_A_CELL, resources={"metadata": {"path": str(folder)}}
    )
    began, error = time.monotonic(), None
    kernel_log = folder / "kernel.log"  # what libraries say to no cell
    try:
        with kernel_log.open("w") as log:
            client.execute(stderr=log)
    except (CellControlSignal, DeadKernelError) as failed:
        error = failed
    seconds = time.monotonic() - began
    print(f"{path.stem}: {'failed' if error else 'ok'}, {seconds:.0f} s", flush=True)
    if error:
        plain = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # it comes with colours
        print(plain, kernel_log.read_text(), sep="\n", file=sys.stderr, flush=True)
    if html is not None:
        _write_page(notebook, html / f"{path.stem}.html")
    return error is None


def _write_page(notebook: Any, path: Path) -> None:
    import nbconvert

    exporter = nbconvert.HTMLExporter()
    # Of lines that are written over each other, the last is what a notebook shows.
    exporter.register_preprocessor(nbconvert.preprocessors.CoalesceStreamsPreprocessor, True)
    page, _ = exporter.from_notebook_node(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
