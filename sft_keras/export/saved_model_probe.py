"""Asks a SavedModel, knowing TensorFlow alone. Run as a file, in a process of its own:

    python -I serving_check.py SAVED_MODEL INPUTS.npz OUTPUTS.npz NAME [MODULE...]

NAME is the output that is written. MODULEs are imported first, such as tensorflow_text where a
tokenizer is made of its operations.

It must not import anything else of this package: it stands for a server that does not have it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping

import numpy as np


def packed(samples: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the samples, {signature: {argument: values}}, as arrays saved without pickling.

    Byte strings become one row of bytes and their lengths; NumPy's own fixed-width strings would
    lose zero bytes at the end.
    """
    arrays: dict[str, np.ndarray] = {}
    for signature, given in samples.items():
        for argument, values in given.items():
            name = f"{signature}/{argument}"
            if values.dtype == object:
                arrays[f"{name}/bytes"] = np.frombuffer(b"".join(values), np.uint8)
                arrays[f"{name}/lengths"] = np.array([len(value) for value in values])
            else:
                arrays[f"{name}/array"] = values
    return arrays


def unpacked(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Returns the values of "SIGNATURE/ARGUMENT" out of what `packed` made."""
    if f"{name}/array" in arrays:
        return arrays[f"{name}/array"]
    joined, ends = arrays[f"{name}/bytes"].tobytes(), np.cumsum(arrays[f"{name}/lengths"])
    starts = ends - arrays[f"{name}/lengths"]
    return np.array([joined[start:end] for start, end in zip(starts, ends)], dtype=object)


def main(saved_model: str, inputs: str, outputs: str, output: str, *needed: str) -> None:
    """Writes each signature's `output` for its input; imports the modules `needed` first."""
    import tensorflow as tf

    for module in needed:
        importlib.import_module(module)

    loaded = tf.saved_model.load(saved_model)
    with np.load(inputs) as arrays:
        answers = {}
        for name in {key.split("/")[0] for key in arrays}:
            function = loaded.signatures[name]
            arguments = function.structured_input_signature[1]
            given = {each: tf.constant(unpacked(arrays, f"{name}/{each}")) for each in arguments}
            answers[name] = function(**given)[output].numpy()
    np.savez(outputs, **answers)
    strangers = {"keras_hub", "sft_keras", "tensorflow_text"} & set(sys.modules) - set(needed)
    if strangers:
        sys.exit(f"This was to know TensorFlow alone; it imported {', '.join(sorted(strangers))}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
