import http.client
import http.server
import io
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

from sft_keras.core import network

# A probe that dies in its thread would print a traceback over the message.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(autouse=True)
def _asked_anew():
    network.is_online.cache_clear()
    yield
    network.is_online.cache_clear()


def test_a_silent_name_server_counts_as_no_network_after_three_seconds(monkeypatch):
    released = threading.Event()

    def wait(*_, **__):
        released.wait(20)
        raise TimeoutError

    monkeypatch.setattr(network, "_TIMEOUT", 0.2)
    monkeypatch.setattr(urllib.request, "urlopen", wait)
    started = time.monotonic()
    assert not network.is_online()
    assert time.monotonic() - started < 5
    released.set()


def test_the_network_is_asked_once_per_process(monkeypatch):
    asked = []
    monkeypatch.setattr(
        urllib.request, "urlopen", lambda *_, **__: asked.append(1) or io.BytesIO(b"")
    )
    assert network.is_online()
    assert network.is_online()
    assert asked == [1]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (urllib.error.HTTPError("", 403, "no", None, None), True),
        (urllib.error.URLError("no name"), False),
        (TimeoutError(), False),
        (http.client.BadStatusLine(""), False),
    ],
)
def test_a_refusing_server_is_a_network_and_a_failing_one_is_not(monkeypatch, error, expected):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    assert network.is_online() is expected


def test_the_proxy_of_the_environment_is_asked(monkeypatch):
    class Proxy(http.server.BaseHTTPRequestHandler):
        asked: list = []  # noqa: RUF012 (of the class, as the server makes the instances)

        def do_HEAD(self):
            self.asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(network, "_ADDRESS", "http://nowhere.invalid/")
    monkeypatch.setattr(network, "_TIMEOUT", 60.0)
    # It holds the proxies of whenever something was first opened.
    monkeypatch.setattr(urllib.request, "_opener", None)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert network.is_online()
    assert Proxy.asked == ["http://nowhere.invalid/"]
    server.shutdown()
    server.server_close()


def test_a_closed_port_is_no_network(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(network, "_ADDRESS", f"http://127.0.0.1:{free.getsockname()[1]}/")
        monkeypatch.setenv("no_proxy", "*")
        assert not network.is_online()


def test_the_light_modules_do_not_import_tensorflow():
    code = (
        "import sys, sft_keras.data, sft_keras.vision.sources.arrays, sft_keras.data.examples, "
        "sft_keras.core.network; sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
