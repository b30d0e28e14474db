"""Find the packages; all metadata is in setup.cfg, which cannot add one to those it finds."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["sft_keras", "sft_keras.*"]), "sft_keras.recipes"],
    # The recipes lie beside the package in a checkout and inside it once installed.
    package_dir={"sft_keras.recipes": "recipes"},
)
