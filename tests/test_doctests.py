"""The examples in docstrings run, and print what they claim to."""

import doctest
import importlib
import subprocess
import sys

import pytest

MODULES = (
    "sft_keras.core.errors",
    "sft_keras.core.flatten",
    "sft_keras.core.reporter",
    "sft_keras.core.timer",
    "sft_keras.data.listing",
    "sft_keras.data.service.dispatcher",
    "sft_keras.recipe.backbone",
    "sft_keras.recipe.data",
    "sft_keras.recipe.field_types",
    "sft_keras.recipe.loader",
    "sft_keras.recipe.recipe",
    "sft_keras.recipe.section",
    "sft_keras.recipe.stage",
    "sft_keras.recipe.storage",
    "sft_keras.text.augment_config",
    "sft_keras.text.clean_config",
    "sft_keras.text.sources.in_memory",
    "sft_keras.vision.augment_config",
    "sft_keras.vision.sources.arrays",
)
"""Modules with examples; these take milliseconds and need no TensorFlow."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_claim(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS, report=True)
    assert result.attempted > 0
    assert result.failed == 0


def test_examples_do_not_import_tensorflow():
    code = (
        "import doctest, importlib, sys\n"
        "for name in sys.argv[1:]: doctest.testmod(importlib.import_module(name))\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, *MODULES], check=False).returncode == 0
