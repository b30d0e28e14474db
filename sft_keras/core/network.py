"""Whether there is a network. Standard library only.

Libraries that download wait for name servers or try again for minutes where there is none.
"""

from __future__ import annotations

import functools
import http.client
import threading
import urllib.error
import urllib.request

# Most of what Keras and tensorflow-datasets download lies behind this name.
_ADDRESS = "https://storage.googleapis.com"
_PATIENCE = 3.0  # seconds


@functools.cache
def is_online() -> bool:
    """Returns whether the network answers within 3 seconds; asked once per process.

    Proxies of the environment (`https_proxy`, `no_proxy`) are used, as downloads use them.
    """
    answers: list[bool] = []
    # In a thread, because a timeout of urllib does not cover the wait for a name server.
    probe = threading.Thread(target=lambda: answers.append(_is_reached(_ADDRESS)), daemon=True)
    probe.start()
    probe.join(_PATIENCE)
    return answers == [True]


def _is_reached(address: str) -> bool:
    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE):
            return True
    except urllib.error.HTTPError:
        return True  # A server that refuses the page was reached all the same.
    except (OSError, http.client.HTTPException, ValueError):  # the last for a misspelt proxy
        return False
