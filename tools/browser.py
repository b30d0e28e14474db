"""A headless Chromium for browser tests and screenshots.

Needs selenium (in the extra `dev`), and `chromium` and `chromedriver` on the path.
"""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

_PROGRAMS = (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]", "::1")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def programs() -> tuple[str, str] | None:
    """Return the paths of Chromium and its driver, or None if one is missing."""
    paths = [next(filter(None, map(shutil.which, names)), None) for names in _PROGRAMS]
    return None if None in paths else tuple(paths)


class Browser:
    """A browser window; a context manager that closes it on exit."""

    def __init__(self, seconds: float = 60) -> None:
        """Open the window; `seconds` is the timeout of every wait."""
        paths = programs()
        if paths is None:
            raise FileNotFoundError("chromium and chromedriver must be on the path.")
        options = webdriver.ChromeOptions()
        options.binary_location = paths[0]
        for flag in _FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self._driver = webdriver.Chrome(options, webdriver.ChromeService(paths[1]))
        self._wait = WebDriverWait(self._driver, seconds)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.quit()

    def look(self, width: int, height: int, *, dark: bool = False, scale: float = 1) -> None:
        """Set the window size in CSS pixels, the pixel ratio and the colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale}
        self._driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {**size, "mobile": width < 600}
        )
        colours = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [colours]})

    def open(self, url: str) -> None:
        """Open a page."""
        self._driver.get(url)

    def find(self, css: str) -> Any:
        """Wait for an element that matches a CSS selector and return it."""
        return self._wait.until(lambda driver: driver.find_elements(By.CSS_SELECTOR, css))[0]

    def has(self, css: str) -> bool:
        """Return whether an element matches a CSS selector now, without waiting."""
        return bool(self._driver.find_elements(By.CSS_SELECTOR, css))

    def fill(self, css: str, text: str) -> None:
        """Paste a text into a field."""
        self.find(css).click()
        self._driver.execute_cdp_cmd("Input.insertText", {"text": text})

    def wait_for(self, css: str, words: str) -> str:
        """Wait until the text of an element contains `words`, and return the text."""

        def text_with_words(_: Any) -> str | None:
            text = self._driver.execute_script(
                "return document.querySelector(arguments[0])?.innerText", css
            )
            return text if text is not None and words in text else None

        return self._wait.until(text_with_words)

    def shot(self, file: Path, height: int | None = None) -> None:
        """Save a PNG screenshot of the whole page, or of its first `height` pixels."""
        size = self._wait.until(lambda _: self._size())
        rows = size["height"] if height is None else min(height, size["height"])
        clip = {"x": 0, "y": 0, "scale": 1, "width": size["width"], "height": rows}
        screenshot = self._driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
        file.write_bytes(base64.b64decode(screenshot["data"]))

    def _size(self) -> dict[str, int] | None:
        """Return the size of the page, or None before it is laid out."""
        size = self._driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        return size if size["width"] and size["height"] else None

    def foreign_requests(self) -> list[str]:
        """Return the URLs on other machines that were requested since the last call."""
        events = [
            json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance")
        ]
        requested = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [
            url
            for url in requested
            if urlsplit(url).scheme in ("http", "https", "ws", "wss")
            and urlsplit(url).hostname not in _LOCAL_HOSTS
        ]

    def complaints(self) -> list[str]:
        """Return the console errors since the last call."""
        return [
            entry["message"]
            for entry in self._driver.get_log("browser")
            if entry["level"] == "SEVERE"
        ]
