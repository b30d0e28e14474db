"""The versions of the package and of the packages that affect results."""

from __future__ import annotations

import importlib.metadata

__version__ = "0.1.0"

_PACKAGES = ("sft_keras", "tensorflow", "keras", "keras-hub", "tensorflow-datasets", "numpy")


def package_versions() -> dict[str, str]:
    """Return {package: version} of the packages that affect results."""
    return {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
