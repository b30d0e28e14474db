"""Pictures of what a run shows: its report, and the page to try its model.

    python tools/screenshots.py --run=runs/quickstart --out=pictures --picture=photo.jpg

Writes report.png, report_phone.png, report_dark.png, demo.png, demo_phone.png and demo_dark.png.
Of a model on texts, the page's own example is asked about.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from browser import Browser

LOOKS = {
    "": {"width": 1280, "height": 900},
    "_phone": {"width": 390, "height": 844, "scale": 2},
    "_dark": {"width": 1280, "height": 900, "dark": True},
}


def main() -> None:
    """Writes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="a finished run's folder")
    parser.add_argument("--out", type=Path, required=True, help="where the pictures go")
    parser.add_argument("--picture", type=Path, help="what a model on images is asked about")
    parser.add_argument("--height", type=int, help="cut reports off below so many pixels")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with Browser() as browser, served(given.run) as url:
        for name, look in LOOKS.items():
            browser.look(**look)
            browser.open((given.run / "report.html").resolve().as_uri())
            browser.shot(given.out / f"report{name}.png", given.height)
            browser.open(url)
            ask(browser, given.picture)
            browser.shot(given.out / f"demo{name}.png")
        foreign = browser.foreign_requests()
    if foreign:
        sys.exit(f"These pages asked other machines: {foreign}")


@contextlib.contextmanager
def served(run: Path, *flags: str) -> Iterator[str]:
    """Serves the page of a run within the block; its address."""
    command = [sys.executable, "-m", "sft_keras.demo", f"--run={run}", "--port=0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline().split()
            if not line:
                sys.exit(process.wait())
            yield line[1]
        finally:
            process.send_signal(signal.SIGINT)


def ask(browser: Browser, picture: Path | None) -> str:
    """Uploads the picture, or asks about the page's example; returns what is answered."""
    browser.find("#answer")
    if picture is None and browser.has("input[type=file]"):
        sys.exit("This model is asked about a picture: pass --picture=FILE.")
    if picture is not None:
        browser.find("input[type=file]").send_keys(str(picture.resolve()))
    else:
        browser.find("#example button, #example tbody tr").click()
        browser.find("#ask").click()
    browser.find("#note p")
    return browser.find("#answer").text


if __name__ == "__main__":
    main()
