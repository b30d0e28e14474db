"""Shared by the tests of the cache."""

import shutil
import subprocess

import pytest

from sft_keras.cache.disk import DiskStore
from sft_keras.core.reporter import CallbackReporter


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a megabyte of its own; a skip where this user may not mount one."""
    place = tmp_path / "small_disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def make_read_only(small_disk):
    """Makes `small_disk` read-only."""

    def make():
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    return make


@pytest.fixture
def said():
    """What `store` says."""
    return []


@pytest.fixture
def store(tmp_path, said):
    """An empty cache."""
    return DiskStore(tmp_path / "cache", CallbackReporter(said.append))
