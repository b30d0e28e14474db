"""Strip outputs from the notebooks, or run them as a test.

    python tools/notebooks.py --strip                  remove outputs
    python tools/notebooks.py --check                  exit with 1 if one has outputs or fails
    python tools/notebooks.py --check your_text --html=FOLDER    also save it with its outputs
    python tools/notebooks.py --check your_text --as_written --preset=hub:bert_tiny_en_uncased

A check trains for fewer epochs (`_SHORT`) unless --as_written is set. To work offline, it runs
your_text with a tiny randomly initialised BERT unless --preset is set. --strip needs only Python.
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
"""The repository that all links in the notebooks point to."""
SETTINGS = "parameters"
"""Tag of the settings cell; a check inserts its own settings after it."""

_PARALLEL = 2  # much of a run is Python on one core
_CELL_TIMEOUT = 900  # seconds
# Appended to a notebook's own overrides: the last override of a field wins.
_FEW = ("stages.head.epochs=2", "stages.top.epochs=1", "stages.top.unfreeze=1")
_SHORT = {
    "quickstart": (*_FEW, "backbone.image_size=(32, 32)"),
    "your_images": (*_FEW, "backbone.image_size=(32, 32)"),
    "your_text": _FEW,
}


def main() -> None:
    """Strip or check the notebooks."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="notebooks to process; default: all"
    )
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--strip", action="store_true", help="remove outputs")
    wanted.add_argument("--check", action="store_true", help="run them; exit with 1 if one fails")
    parser.add_argument("--html", type=Path, help="folder for HTML copies with outputs")
    parser.add_argument("--preset", help="backbone of your_text; default: a tiny random BERT")
    parser.add_argument("--as_written", action="store_true", help="train for all epochs")
    args = parser.parse_args()
    known = notebooks()
    unknown = [name for name in args.names if name not in known]
    if unknown:
        parser.error(f"there is no notebook {', '.join(unknown)}; there are {', '.join(known)}")
    paths = [known[name] for name in args.names or known]
    if args.strip:
        for path in paths:
            path.write_text(stripped(path.read_text(encoding="utf-8")), encoding="utf-8")
        return
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if stripped(text) != text:
            sys.exit(f"{path} contains outputs; run python tools/notebooks.py --strip")
    if not _check(paths, args):
        sys.exit("A notebook failed.")


def notebooks() -> dict[str, Path]:
    """Return the paths of the notebooks by name."""
    return {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def stripped(text: str) -> str:
    """Return the text of a notebook without outputs, in a canonical format."""
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
    """Return lines of Python that shorten the training of a notebook."""
    return [f"changes += {list(_SHORT[name])}"]


def _check(paths: Sequence[Path], args: argparse.Namespace) -> bool:
    """Run notebooks in parallel and print the outcome of each; return whether all succeeded."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        concurrent.futures.ThreadPoolExecutor(_PARALLEL) as pool,
    ):
        python_path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), python_path)))
        os.environ["SFT_KERAS_CACHE"] = str(Path(scratch, "cache"))
        runs = []
        for path in paths:
            folder = Path(scratch, path.stem)
            folder.mkdir()
            lines = [] if args.as_written else short_settings(path.stem)
            if path.stem == "your_text":
                lines.append(f"preset = {args.preset or _tiny_preset(path, folder)!r}")
            runs.append(pool.submit(_run, path, folder, lines, args.html))
        succeeded = [run.result() for run in runs]
    return all(succeeded)


def _tiny_preset(path: Path, folder: Path) -> str:
    from tiny_bert import write_tiny_bert

    tiny = folder / "tiny_bert_of_random_weights"
    write_tiny_bert(tiny, path.read_text(encoding="utf-8"))
    return f"hf:{tiny.name}"


def _run(path: Path, folder: Path, lines: Sequence[str], html: Path | None) -> bool:
    """Run a notebook and return whether it succeeded.

    Args:
      path: The notebook; the file is not modified.
      folder: The working directory.
      lines: Lines of Python inserted after the settings cell.
      html: Folder for an HTML copy with outputs; None for no copy.
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
        notebook, timeout=_CELL_TIMEOUT, resources={"metadata": {"path": str(folder)}}
    )
    started, error = time.monotonic(), None
    kernel_log = folder / "kernel.log"  # library output that belongs to no cell
    try:
        with kernel_log.open("w") as log:
            client.execute(stderr=log)
    except (CellControlSignal, DeadKernelError) as failed:
        error = failed
    seconds = time.monotonic() - started
    print(f"{path.stem}: {'failed' if error else 'ok'}, {seconds:.0f} s", flush=True)
    if error:
        plain = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # drop terminal colours
        print(plain, kernel_log.read_text(), sep="\n", file=sys.stderr, flush=True)
    if html is not None:
        _write_page(notebook, html / f"{path.stem}.html")
    return error is None


def _write_page(notebook: Any, path: Path) -> None:
    import nbconvert

    exporter = nbconvert.HTMLExporter()
    # Of progress lines that overwrite each other, keep the last, as a notebook shows it.
    exporter.register_preprocessor(nbconvert.preprocessors.CoalesceStreamsPreprocessor, True)
    page, _ = exporter.from_notebook_node(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
