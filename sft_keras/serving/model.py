"""The exported model that a server asks."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf import saved_model_pb2

from sft_keras.core.errors import ServingError
from sft_keras.export.paths import VERSION, load_exported, saved_model_path
from sft_keras.export.warm_up import warm_up_inputs
from sft_keras.serving.batching import Batching
from sft_keras.serving.errors import TOO_LARGE, RequestError
from sft_keras.serving.limits import Limits
from sft_keras.serving.request import Request, place_of, read_arrays, read_request
from sft_keras.serving.request_values import Argument, listed
from sft_keras.serving.response import write_answer
from sft_keras.tasks.signatures import is_binary
from sft_keras.vision.faults import first_line, undecodable_reason
from sft_keras.vision.image_size import declared_pixels


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a request is answered with: the body, and how many instances it had."""

    body: bytes
    instances: int


class ServedModel:
    """Answers requests; may be asked by several threads at a time."""

    def __init__(self, run: str | Path, name: str, limits: Limits, threads: int) -> None:
        """Loads the exported model of a run, and asks each signature once.

        Args:
          run: The run folder.
          name: What requests call the model.
          limits: Of each request.
          threads: That read or compute at a time; further ones wait.

        Raises:
          RunFolderError: If there is none.
          ServingError: If a signature takes what requests cannot hold.
        """
        self.name, self.limits = name, limits
        self._loaded = load_exported(run)
        self._signatures = dict(self._loaded.signatures)
        specs = {each: _specs(function) for each, function in self._signatures.items()}
        self._arguments = {each: _arguments(each, found) for each, found in specs.items()}
        self._pixels = tf.function(
            declared_pixels, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
        )
        self._signature_defs = _signature_defs(saved_model_path(run))
        self._reading = threading.BoundedSemaphore(threads)
        self._batching = Batching(self._ask, threads, limits.pixels)
        for each, found in specs.items():
            request = Request(each, by_row=False, values=None)
            self._answers(request, self._arguments[each], warm_up_inputs(found))

    def predict(self, body: bytes) -> Answer:
        """Answers the body of a request.

        Raises:
          RequestError: If there is no answer to it.
        """
        with self._reading:  # JSON takes many times the memory of the arrays
            request = read_request(body)
            arguments = self._arguments.get(request.signature)
            if arguments is None:
                raise RequestError(
                    f'Serving signature name: "{request.signature[:60]}" not found in signature '
                    f"def. There are: {listed(self._arguments)}."
                )
            arrays = read_arrays(request, arguments, self.limits)
            request = dataclasses.replace(request, values=None)
        count = len(next(iter(arrays.values())))
        outputs = self._answers(request, arguments, arrays)
        return Answer(write_answer(outputs, request.by_row, count), count)

    def status(self) -> dict[str, Any]:
        """Returns TensorFlow Serving's GetModelStatusResponse."""
        status = {"error_code": "OK", "error_message": ""}
        version = {"version": str(VERSION), "state": "AVAILABLE", "status": status}
        return {"model_version_status": [version]}

    def metadata(self) -> dict[str, Any]:
        """Returns TensorFlow Serving's GetModelMetadataResponse."""
        spec = {"name": self.name, "signature_name": "", "version": str(VERSION)}
        signatures = {"signature_def": self._signature_defs}
        return {"model_spec": spec, "metadata": {"signature_def": signatures}}

    def _answers(
        self, request: Request, arguments: Sequence[Argument], arrays: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        binaries = [each for each in arguments if each.kind == "binary"]
        pixels = sum(self._moderate_pixels(arrays[each.name]) for each in binaries)
        # Images become pixels of one size. Texts would be padded to the longest of all requests.
        merges = len(binaries) == len(arguments)
        try:
            return self._batching.ask(request.signature, arrays, weight=pixels, merges=merges)
        except tf.errors.InvalidArgumentError as error:
            # Looked for only now: to decode each image twice would cost the good requests.
            for each in binaries:
                for number, image in enumerate(arrays[each.name]):
                    reason = undecodable_reason(image)
                    if reason is not None:
                        place = place_of(request.by_row, each, arguments, number)
                        raise RequestError(f"{place} cannot be decoded: {reason}.") from error
            raise RequestError(f"The model refuses this: {first_line(error)}") from error

    def _ask(self, signature: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = {name: tf.constant(values) for name, values in arrays.items()}
        answers = self._signatures[signature](**given)
        return {name: np.asarray(answers[name].numpy()) for name in sorted(answers)}

    def _moderate_pixels(self, images: Sequence[bytes]) -> int:
        pixels = sum(map(self._declared_pixels, images))
        if pixels > self.limits.pixels:
            raise RequestError(
                f"The images of a request may have at most {self.limits.pixels} pixels in all. "
                f"Received: {pixels}. Scale them down, or send them in several requests.",
                TOO_LARGE,
            )
        return pixels

    def _declared_pixels(self, image: bytes) -> int:
        try:
            return int(self._pixels(tf.constant(image)))
        except tf.errors.InvalidArgumentError:
            return 0  # It will not be decoded either.


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
        f"A signature must take strings, one for each instance, or float32. Received: {spec} of "
        f"{signature!r}. Serve this model with TensorFlow Serving."
    )


def _signature_defs(folder: Path) -> dict[str, Any]:
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    return {
        name: MessageToDict(
            found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, found in saved.meta_graphs[0].signature_def.items()
    }
