"""Take screenshots of a run's report and of its demo page.

    python tools/screenshots.py --run=runs/quickstart --out=pictures --picture=photo.jpg

Writes report.png, report_phone.png, report_dark.png, demo.png, demo_phone.png and demo_dark.png.
For text models, the demo page's own example is used.
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
    """Write the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--out", type=Path, required=True, help="folder for the screenshots")
    parser.add_argument("--picture", type=Path, help="input image for an image model")
    parser.add_argument("--height", type=int, help="crop reports to this many pixels")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with Browser() as browser, served(args.run) as url:
        for name, look in LOOKS.items():
            browser.look(**look)
            browser.open((args.run / "report.html").resolve().as_uri())
            browser.shot(args.out / f"report{name}.png", args.height)
            browser.open(url)
            ask(browser, args.picture)
            browser.shot(args.out / f"demo{name}.png")
        foreign = browser.foreign_requests()
    if foreign:
        sys.exit(f"The pages requested these URLs on other machines: {foreign}")


@contextlib.contextmanager
def served(run: Path, *flags: str) -> Iterator[str]:
    """Serve the demo page of a run; the context manager's value is its URL."""
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
    """Upload an image or pick the page's example, and return the text of the prediction."""
    browser.find("#answer")
    if picture is None and browser.has("input[type=file]"):
        sys.exit("This is an image model: pass --picture=FILE.")
    if picture is not None:
        browser.find("input[type=file]").send_keys(str(picture.resolve()))
    else:
        browser.find("#example button, #example tbody tr").click()
        browser.find("#ask").click()
    browser.find("#note p")
    return browser.find("#answer").text


if __name__ == "__main__":
    main()
