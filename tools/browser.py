"""A headless Chromium: opens pages, fills them in and keeps pictures of them.

Needs selenium (of the extra `dev`), and `chromium` and `chromedriver` on the path.
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
_OWN = ("127.0.0.1", "localhost", "[::1]", "::1")
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
    """Returns the paths of Chromium and its driver, or None where one is missing."""
    found = [next(filter(None, map(shutil.which, names)), None) for names in _PROGRAMS]
    return None if None in found else tuple(found)


class Browser:
    """One window. As a context manager it is closed at the end."""

    def __init__(self, seconds: float = 60) -> None:
        """Opens it; `seconds` is the longest that is waited for anything."""
        found = programs()
        if found is None:
            raise FileNotFoundError("chromium and chromedriver must be on the path.")
        options = webdriver.ChromeOptions()
        options.binary_location = found[0]
        for flag in _FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self._driver = webdriver.Chrome(options, webdriver.ChromeService(found[1]))
        self._wait = WebDriverWait(self._driver, seconds)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.quit()

    def look(self, width: int, height: int, *, dark: bool = False, scale: float = 1) -> None:
        """Sets the size of the window in CSS pixels, how many pixels each is, and the colours."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale}
        self._driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {**size, "mobile": width < 600}
        )
        colours = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [colours]})

    def open(self, url: str) -> None:
        """Opens a page."""
        self._driver.get(url)

    def find(self, css: str) -> Any:
        """Returns the first element, once it is there."""
        return self._wait.until(lambda driver: driver.find_elements(By.CSS_SELECTOR, css))[0]

    def has(self, css: str) -> bool:
        """Whether such an element is there now."""
        return bool(self._driver.find_elements(By.CSS_SELECTOR, css))

    def fill(self, css: str, text: str) -> None:
        """Puts a text into a field, as pasting it does."""
        self.find(css).click()
        self._driver.execute_cdp_cmd("Input.insertText", {"text": text})

    def wait_for(self, css: str, words: str) -> str:
        """Returns what an element says, once `words` are part of it."""

        def said(_: Any) -> str | None:
            text = self._driver.execute_script(
                "return document.querySelector(arguments[0])?.innerText", css
            )
            return text if text is not None and words in text else None

        return self._wait.until(said)

    def shot(self, file: Path, height: int | None = None) -> None:
        """Writes a picture of the page as PNG, beyond the window too, or of its first pixels."""
        size = self._wait.until(lambda _: self._size())
        rows = size["height"] if height is None else min(height, size["height"])
        clip = {"x": 0, "y": 0, "scale": 1, "width": size["width"], "height": rows}
        taken = self._driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
        file.write_bytes(base64.b64decode(taken["data"]))

    def _size(self) -> dict[str, int] | None:
        """Returns that of the page; None while it is not laid out."""
        size = self._driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        return size if size["width"] and size["height"] else None

    def foreign_requests(self) -> list[str]:
        """Returns the addresses on other machines that pages asked for since the last call."""
        events = [
            json.loads(each["message"])["message"] for each in self._driver.get_log("performance")
        ]
        asked = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [
            url
            for url in asked
            if urlsplit(url).scheme in ("http", "https", "ws", "wss")
            and urlsplit(url).hostname not in _OWN
        ]

    def complaints(self) -> list[str]:
        """Returns the errors of the console since the last call."""
        return [
            each["message"] for each in self._driver.get_log("browser") if each["level"] == "SEVERE"
        ]
