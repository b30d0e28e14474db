"""Versions of the packages that decide on results."""

from __future__ import annotations

import importlib.metadata

__version__ = "0.1.0"

_PACKAGES = ("sft_keras", "tensorflow", "keras", "keras-hub", "tensorflow-datasets", "numpy")


def package_versions() -> dict[str, str]:
    """Returns the version of each package that results depend on."""
    return {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
