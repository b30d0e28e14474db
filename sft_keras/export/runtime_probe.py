"""Asks an exported file, knowing its runtime alone. Run as a file, in a process of its own:

    python -I asking.py '{"runtime": "litert", "model": ..., "inputs": ..., "outputs": ..., ...}'

It must not import anything else of this package: it stands for a device or server that has neither
the package nor, but for a SavedModel, TensorFlow.

    runtime   "litert", "onnx" or "tensorflow"
    model     the file, or the SavedModel's folder
    inputs    a folder with batch-NUMBER.npz, what is asked in this order, and timed-SIZE.npz, what
              is asked again and again; each has an array for each input, by name. Texts are fixed
              width strings with a full stop behind each, since NumPy drops zeros at the end
    outputs   the .npz to write: each batch's answer, float32; each timed one's milliseconds
    threads   that the runtime may use within an operation
    signature, output, needs    of a SavedModel: what to ask, what of it to write, and modules to
              import first
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_Inputs = Mapping[str, np.ndarray]
_Ask = Callable[[_Inputs], np.ndarray]
_Signature = Mapping[str, Mapping[str, str]]  # "takes" and "gives": {name: what the file says}
_STRANGERS = {"keras", "keras_hub", "sft_keras", "tensorflow", "tf2onnx"}
_SERVED_STRANGERS = {"keras_hub", "sft_keras"}
_WARM_UP, _FEWEST, _MOST, _SECONDS = 3, 10, 100, 2.0


def _litert(plan: Mapping[str, Any]) -> tuple[_Ask, _Signature]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=plan["model"], num_threads=plan["threads"])
    runner = interpreter.get_signature_runner("serving_default")
    taken = runner.get_input_details()
    ((output, given),) = runner.get_output_details().items()
    shapes: dict[str, tuple[int, ...]] = {}

    def ask(inputs: _Inputs) -> np.ndarray:
        if shapes != {name: inputs[name].shape for name in taken}:
            for name, detail in taken.items():
                shapes[name] = inputs[name].shape
                interpreter.resize_tensor_input(detail["index"], shapes[name], strict=True)
            interpreter.allocate_tensors()
        for name, detail in taken.items():
            interpreter.set_tensor(detail["index"], _quantized(inputs[name], detail))
        interpreter.invoke()
        return _as_floats(interpreter.get_tensor(given["index"]), given)

    signature = {
        "takes": {name: _in_words(detail) for name, detail in taken.items()},
        "gives": {output: _in_words(given)},
    }
    return ask, signature


def _in_words(detail: Mapping[str, Any]) -> str:
    scale, zero_point = detail["quantization"]
    kind, shape = np.dtype(detail["dtype"]).name, detail["shape_signature"].tolist()
    quantized = f", scale {scale:.9g}, zero point {zero_point}" if scale else ""
    return f"{kind} {shape}{quantized}"


def _quantized(values: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if scale and (scale, zero_point, detail["dtype"]) != (1.0, 0, values.dtype):
        limits = np.iinfo(detail["dtype"])
        values = np.clip(np.round(values / scale) + zero_point, limits.min, limits.max)
    return values.astype(detail["dtype"], copy=False)


def _as_floats(values: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if not scale:
        return values
    return ((values.astype(np.float32) - zero_point) * scale).astype(np.float32)


def _onnx(plan: Mapping[str, Any]) -> tuple[_Ask, _Signature]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = plan["threads"], 1
    session = onnxruntime.InferenceSession(
        plan["model"], options, providers=["CPUExecutionProvider"]
    )
    kinds = {"tensor(float)": np.float32, "tensor(int32)": np.int32}
    taken = {each.name: kinds[each.type] for each in session.get_inputs()}
    (output,) = [each.name for each in session.get_outputs()]

    def ask(inputs: _Inputs) -> np.ndarray:
        given = {name: inputs[name].astype(kind, copy=False) for name, kind in taken.items()}
        return session.run([output], given)[0]

    signature = {
        "takes": {each.name: f"{each.type} {each.shape}" for each in session.get_inputs()},
        "gives": {each.name: f"{each.type} {each.shape}" for each in session.get_outputs()},
    }
    return ask, signature


def _tensorflow(plan: Mapping[str, Any]) -> tuple[_Ask, _Signature]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(plan["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for module in plan["needs"]:
        importlib.import_module(module)
    loaded = tf.saved_model.load(plan["model"])
    answer = loaded.signatures[plan["signature"]]
    taken = answer.structured_input_signature[1]

    def ask(inputs: _Inputs) -> np.ndarray:
        given = {name: tf.cast(_texts(inputs[name]), spec.dtype) for name, spec in taken.items()}
        return answer(**given)[plan["output"]].numpy()

    ask.loaded = loaded  # else its variables would go
    return ask, {"takes": {}, "gives": {}}


def _texts(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "S":
        return values
    return np.array([each[:-1] for each in values.tolist()], dtype=object)


_RUNTIMES = {"litert": _litert, "onnx": _onnx, "tensorflow": _tensorflow}


def _milliseconds(ask: _Ask, inputs: _Inputs) -> np.ndarray:
    """Returns how long each of some calls took."""
    for _ in range(_WARM_UP):
        ask(inputs)
    spent: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(spent) < _FEWEST or (len(spent) < _MOST and time.perf_counter() < end):
        began = time.perf_counter()
        ask(inputs)
        spent.append(1000 * (time.perf_counter() - began))
    return np.array(spent)


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def main(given: str) -> None:
    """Writes the answers and how long they took."""
    plan = json.loads(given)
    ask, signature = _RUNTIMES[plan["runtime"]](plan)
    found = {"signature": np.array(json.dumps(signature))}
    for path in sorted(Path(plan["inputs"]).glob("batch-*.npz")):
        found[path.stem] = ask(_read(path))
    for path in sorted(Path(plan["inputs"]).glob("timed-*.npz")):
        found[path.stem] = _milliseconds(ask, _read(path))
    np.savez(plan["outputs"], **found)
    is_served = plan["runtime"] == "tensorflow"
    strangers = (_SERVED_STRANGERS if is_served else _STRANGERS) & set(sys.modules)
    if strangers:
        sys.exit(f"This was to know its runtime alone; it imported {', '.join(sorted(strangers))}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
