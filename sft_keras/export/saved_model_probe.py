"""Runs a SavedModel with only TensorFlow. Executed as a script in a process of its own:

    python -I saved_model_probe.py SAVED_MODEL INPUTS.npz OUTPUTS.npz NAME [MODULE...]

NAME is the output to write. MODULEs are imported first, e.g. tensorflow_text if the tokenizer
consists of its operations.

It must not import anything else of this package: it stands for a server without this package.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np


def packed(samples: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return samples, {signature: {argument: values}}, as arrays that need no pickling.

    Byte strings become one array of bytes and one of lengths, since NumPy's fixed-width strings
    lose trailing zero bytes.
    """
    arrays: dict[str, np.ndarray] = {}
    for signature, arguments in samples.items():
        for argument, values in arguments.items():
            name = f"{signature}/{argument}"
            if values.dtype == object:
                arrays[f"{name}/bytes"] = np.frombuffer(b"".join(values), np.uint8)
                arrays[f"{name}/lengths"] = np.array([len(value) for value in values])
            else:
                arrays[f"{name}/array"] = values
    return arrays


def unpacked(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return the values of "SIGNATURE/ARGUMENT" from the arrays of `packed`."""
    if f"{name}/array" in arrays:
        return arrays[f"{name}/array"]
    data, ends = arrays[f"{name}/bytes"].tobytes(), np.cumsum(arrays[f"{name}/lengths"])
    starts = ends - arrays[f"{name}/lengths"]
    return np.array([data[start:end] for start, end in zip(starts, ends)], dtype=object)


def main(saved_model: str, inputs: str, outputs: str, output: str, *modules: str) -> None:
    """Run every signature on its inputs and write its `output`. Import `modules` first."""
    import tensorflow as tf

    for module in modules:
        importlib.import_module(module)

    loaded = tf.saved_model.load(saved_model)
    with np.load(inputs) as arrays:
        results: dict[str, Any] = {}
        for name in {key.split("/")[0] for key in arrays}:
            function = loaded.signatures[name]
            specs = function.structured_input_signature[1]
            arguments = {
                argument: tf.constant(unpacked(arrays, f"{name}/{argument}")) for argument in specs
            }
            results[name] = function(**arguments)[output].numpy()
    np.savez(outputs, **results)
    forbidden = {"keras_hub", "sft_keras", "tensorflow_text"} - set(modules)
    imported = sorted(forbidden & set(sys.modules))
    if imported:
        sys.exit(f"The probe must import only TensorFlow. It imported {', '.join(imported)}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
