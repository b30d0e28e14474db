"""Runs an exported file with only its runtime. Executed as a script in a process of its own:

    python -I runtime_probe.py '{"runtime": "litert", "model": ..., "inputs": ..., ...}'

It must not import anything else of this package: it stands for a device or server that has neither
the package nor, except for a SavedModel, TensorFlow. Its argument is a plan in JSON:

    runtime     "litert", "onnx" or "tensorflow"
    model       the file, or the folder of a SavedModel
    inputs      a folder with batch-NUMBER.npz, which are run in this order, and timed-SIZE.npz,
                whose latency is measured. Each holds one array per input, by name. Texts are
                fixed-width strings with a full stop at the end, since NumPy drops trailing zeros
    outputs     the .npz file to write: the float32 output of each batch, and the latencies of each
                timed batch in milliseconds
    threads     the number of threads that the runtime may use within an operation
    signature, output, needs    for a SavedModel: the signature to call, the output to write, and
                modules to import first
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
_Predict = Callable[[_Inputs], np.ndarray]
_Signature = Mapping[str, Mapping[str, str]]  # "takes" and "gives": {name: description}
_FORBIDDEN = {"keras", "keras_hub", "sft_keras", "tensorflow", "tf2onnx"}
_FORBIDDEN_WITH_TENSORFLOW = {"keras_hub", "sft_keras"}
_WARM_UP_CALLS, _MIN_CALLS, _MAX_CALLS, _SECONDS = 3, 10, 100, 2.0


def _litert(plan: Mapping[str, Any]) -> tuple[_Predict, _Signature]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=plan["model"], num_threads=plan["threads"])
    runner = interpreter.get_signature_runner("serving_default")
    input_details = runner.get_input_details()
    ((output, output_detail),) = runner.get_output_details().items()
    shapes: dict[str, tuple[int, ...]] = {}

    def predict(inputs: _Inputs) -> np.ndarray:
        if shapes != {name: inputs[name].shape for name in input_details}:
            for name, detail in input_details.items():
                shapes[name] = inputs[name].shape
                interpreter.resize_tensor_input(detail["index"], shapes[name], strict=True)
            interpreter.allocate_tensors()
        for name, detail in input_details.items():
            interpreter.set_tensor(detail["index"], _quantize(inputs[name], detail))
        interpreter.invoke()
        return _dequantize(interpreter.get_tensor(output_detail["index"]), output_detail)

    signature = {
        "takes": {name: _describe(detail) for name, detail in input_details.items()},
        "gives": {output: _describe(output_detail)},
    }
    return predict, signature


def _describe(detail: Mapping[str, Any]) -> str:
    scale, zero_point = detail["quantization"]
    dtype, shape = np.dtype(detail["dtype"]).name, detail["shape_signature"].tolist()
    quantized = f", scale {scale:.9g}, zero point {zero_point}" if scale else ""
    return f"{dtype} {shape}{quantized}"


def _quantize(values: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if scale and (scale, zero_point, detail["dtype"]) != (1.0, 0, values.dtype):
        limits = np.iinfo(detail["dtype"])
        values = np.clip(np.round(values / scale) + zero_point, limits.min, limits.max)
    return values.astype(detail["dtype"], copy=False)


def _dequantize(values: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if not scale:
        return values
    return ((values.astype(np.float32) - zero_point) * scale).astype(np.float32)


def _onnx(plan: Mapping[str, Any]) -> tuple[_Predict, _Signature]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = plan["threads"], 1
    session = onnxruntime.InferenceSession(
        plan["model"], options, providers=["CPUExecutionProvider"]
    )
    dtypes = {"tensor(float)": np.float32, "tensor(int32)": np.int32}
    input_dtypes = {node.name: dtypes[node.type] for node in session.get_inputs()}
    (output,) = [node.name for node in session.get_outputs()]

    def predict(inputs: _Inputs) -> np.ndarray:
        feeds = {
            name: inputs[name].astype(dtype, copy=False) for name, dtype in input_dtypes.items()
        }
        return session.run([output], feeds)[0]

    signature = {
        "takes": {node.name: f"{node.type} {node.shape}" for node in session.get_inputs()},
        "gives": {node.name: f"{node.type} {node.shape}" for node in session.get_outputs()},
    }
    return predict, signature


def _tensorflow(plan: Mapping[str, Any]) -> tuple[_Predict, _Signature]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(plan["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for module in plan["needs"]:
        importlib.import_module(module)
    loaded = tf.saved_model.load(plan["model"])
    specs = loaded.signatures[plan["signature"]].structured_input_signature[1]

    def predict(inputs: _Inputs) -> np.ndarray:
        arguments = {
            name: tf.cast(_decode_texts(inputs[name]), spec.dtype) for name, spec in specs.items()
        }
        # By way of `loaded`: a signature by itself does not keep its variables alive.
        return loaded.signatures[plan["signature"]](**arguments)[plan["output"]].numpy()

    return predict, {"takes": {}, "gives": {}}


def _decode_texts(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "S":
        return values
    return np.array([text[:-1] for text in values.tolist()], dtype=object)


_RUNTIMES = {"litert": _litert, "onnx": _onnx, "tensorflow": _tensorflow}


def _measure_latency(predict: _Predict, inputs: _Inputs) -> np.ndarray:
    """Return the latency of each of several calls in milliseconds."""
    for _ in range(_WARM_UP_CALLS):
        predict(inputs)
    times: list[float] = []
    deadline = time.perf_counter() + _SECONDS
    while len(times) < _MIN_CALLS or (len(times) < _MAX_CALLS and time.perf_counter() < deadline):
        start = time.perf_counter()
        predict(inputs)
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times)


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def main(plan_json: str) -> None:
    """Run the plan and write outputs and latencies."""
    plan = json.loads(plan_json)
    predict, signature = _RUNTIMES[plan["runtime"]](plan)
    results: dict[str, Any] = {"signature": np.array(json.dumps(signature))}
    for path in sorted(Path(plan["inputs"]).glob("batch-*.npz")):
        results[path.stem] = predict(_read(path))
    for path in sorted(Path(plan["inputs"]).glob("timed-*.npz")):
        results[path.stem] = _measure_latency(predict, _read(path))
    np.savez(plan["outputs"], **results)
    uses_tensorflow = plan["runtime"] == "tensorflow"
    forbidden = _FORBIDDEN_WITH_TENSORFLOW if uses_tensorflow else _FORBIDDEN
    imported = sorted(forbidden & set(sys.modules))
    if imported:
        sys.exit(f"The probe must import only the runtime. It imported {', '.join(imported)}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
