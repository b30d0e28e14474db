"""Detect whether there is a network. Standard library only.

Without one, libraries that download wait for name servers or retry for minutes.
"""

from __future__ import annotations

import functools
import http.client
import threading
import urllib.error
import urllib.request

# The host of most downloads of Keras and tensorflow-datasets.
_ADDRESS = "https://storage.googleapis.com"
_TIMEOUT = 3.0  # seconds


@functools.cache
def is_online() -> bool:
    """Return whether the network responds within 3 seconds; tested once per process.

    The proxies of the environment (`https_proxy`, `no_proxy`) apply, as they do to downloads.
    """
    answers: list[bool] = []
    # In a thread, because the timeout of urllib does not cover name resolution.
    probe = threading.Thread(target=lambda: answers.append(_is_reachable(_ADDRESS)), daemon=True)
    probe.start()
    probe.join(_TIMEOUT)
    return answers == [True]


def _is_reachable(address: str) -> bool:
    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT):
            return True
    except urllib.error.HTTPError:
        return True  # The server refused the page, but was reached.
    except (OSError, http.client.HTTPException, ValueError):  # ValueError: a malformed proxy
        return False
