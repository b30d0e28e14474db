"""The exported model of a run, behind a server."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf import saved_model_pb2

from sft_keras.core.errors import ServingError
from sft_keras.export.paths import VERSION, load_exported, saved_model_path
from sft_keras.export.warm_up import warm_up_inputs
from sft_keras.serving.batching import Arrays, DynamicBatcher
from sft_keras.serving.errors import TOO_LARGE, RequestError
from sft_keras.serving.limits import Limits
from sft_keras.serving.request import Request, read_arrays, read_request, value_location
from sft_keras.serving.request_values import Argument, listed
from sft_keras.serving.response import write_predictions
from sft_keras.tasks.signatures import is_binary
from sft_keras.vision.faults import first_line, undecodable_reason
from sft_keras.vision.image_size import declared_pixels


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The body of a response, and the number of instances of its request."""

    body: bytes
    instances: int


class ServedModel:
    """Computes predictions for requests. Thread-safe."""

    def __init__(self, run: str | Path, name: str, limits: Limits, threads: int) -> None:
        """Load the exported model of a run, and call each signature once.

        Args:
          run: The run folder.
          name: The name of the model in URLs.
          limits: The limits of each request.
          threads: The number of threads that parse or compute at a time; others wait.

        Raises:
          RunFolderError: The run has no exported model.
          ServingError: A signature has an argument that JSON requests cannot express.
        """
        self.name, self.limits = name, limits
        self._loaded = load_exported(run)
        self._signatures = dict(self._loaded.signatures)
        specs = {name: _specs(function) for name, function in self._signatures.items()}
        self._arguments = {name: _arguments(name, args) for name, args in specs.items()}
        self._pixels = tf.function(
            declared_pixels, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
        )
        self._signature_defs = _signature_defs(saved_model_path(run))
        self._parsing = threading.BoundedSemaphore(threads)
        self._batcher = DynamicBatcher(self._call, threads, limits.pixels)
        for signature, args in specs.items():
            request = Request(signature, by_row=False, values=None)
            self._predict(request, self._arguments[signature], warm_up_inputs(args))

    def predict(self, body: bytes) -> Prediction:
        """Return the response to the body of a request.

        Raises:
          RequestError: The request is invalid or exceeds a limit.
        """
        with self._parsing:  # parsed JSON takes many times the memory of the arrays
            request = read_request(body)
            arguments = self._arguments.get(request.signature)
            if arguments is None:
                raise RequestError(
                    f'Serving signature name: "{request.signature[:60]}" not found in signature '
                    f"def. Available: {listed(self._arguments)}."
                )
            arrays = read_arrays(request, arguments, self.limits)
            request = dataclasses.replace(request, values=None)
        count = len(next(iter(arrays.values())))
        outputs = self._predict(request, arguments, arrays)
        return Prediction(write_predictions(outputs, request.by_row, count), count)

    def status(self) -> dict[str, Any]:
        """Return TensorFlow Serving's GetModelStatusResponse."""
        status = {"error_code": "OK", "error_message": ""}
        version = {"version": str(VERSION), "state": "AVAILABLE", "status": status}
        return {"model_version_status": [version]}

    def metadata(self) -> dict[str, Any]:
        """Return TensorFlow Serving's GetModelMetadataResponse."""
        spec = {"name": self.name, "signature_name": "", "version": str(VERSION)}
        signatures = {"signature_def": self._signature_defs}
        return {"model_spec": spec, "metadata": {"signature_def": signatures}}

    def _predict(self, request: Request, arguments: Sequence[Argument], arrays: Arrays) -> Arrays:
        image_arguments = [argument for argument in arguments if argument.kind == "binary"]
        pixels = sum(self._count_pixels(arrays[argument.name]) for argument in image_arguments)
        # Images are resized to one size. Merged texts would be padded to the longest of them all.
        mergeable = len(image_arguments) == len(arguments)
        try:
            return self._batcher.predict(
                request.signature, arrays, weight=pixels, mergeable=mergeable
            )
        except tf.errors.InvalidArgumentError as error:
            # Diagnosed only on failure: decoding every image twice would slow down good requests.
            for argument in image_arguments:
                for number, image in enumerate(arrays[argument.name]):
                    reason = undecodable_reason(image)
                    if reason is not None:
                        location = value_location(request.by_row, argument, arguments, number)
                        raise RequestError(f"{location} cannot be decoded: {reason}.") from error
            raise RequestError(f"The model rejects this input: {first_line(error)}") from error

    def _call(self, signature: str, arrays: Arrays) -> Arrays:
        tensors = {name: tf.constant(values) for name, values in arrays.items()}
        outputs = self._signatures[signature](**tensors)
        return {name: np.asarray(outputs[name].numpy()) for name in sorted(outputs)}

    def _count_pixels(self, images: Iterable[bytes]) -> int:
        """Return the total number of pixels, or raise if there are too many."""
        pixels = sum(map(self._declared_pixels, images))
        if pixels > self.limits.pixels:
            raise RequestError(
                f"The images of a request may have at most {self.limits.pixels} pixels in total. "
                f"Received: {pixels}. Scale them down, or send them in several requests.",
                TOO_LARGE,
            )
        return pixels

    def _declared_pixels(self, image: bytes) -> int:
        try:
            return int(self._pixels(tf.constant(image)))
        except tf.errors.InvalidArgumentError:
            return 0  # it cannot be decoded either, which is reported later


def _specs(function: Any) -> list[tf.TensorSpec]:
    return list(function.structured_input_signature[1].values())


def _arguments(signature: str, specs: Sequence[tf.TensorSpec]) -> tuple[Argument, ...]:
    return tuple(
        Argument(spec.name, _kind(signature, spec), tuple(spec.shape[1:])) for spec in specs
    )


def _kind(signature: str, spec: tf.TensorSpec) -> str:
    if spec.dtype == tf.string and spec.shape.rank == 1:
        return "binary" if is_binary(spec.name) else "text"
    if spec.dtype == tf.float32:
        return "float32"
    raise ServingError(
        f"A signature must take strings, one per instance, or float32. Received: {spec} of "
        f"{signature!r}. Serve this model with TensorFlow Serving."
    )


def _signature_defs(folder: Path) -> dict[str, Any]:
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    return {
        name: MessageToDict(
            definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, definition in saved.meta_graphs[0].signature_def.items()
    }
