"""Compiles programs for a TPU, with none there; started by tpu_programs.py in another environment.

    python tpu_compiler.py TOPOLOGY FOLDER

The last line of its output is an object: for each FOLDER/*.hlo, a serialized HloModuleProto, the
seconds, and the bytes of a core that the program needs beside those of its own code.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # else it looks for Google's cloud, for minutes
os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np
from jax._src.interpreters import mlir
from jax._src.lib import xla_client
from jax._src.lib.mlir import ir
from jax.experimental import topologies
from jaxlib import _hlo


def compiled(file: Path, devices: list[Any]) -> dict[str, Any]:
    """Compiles a program for the first of some devices."""
    text = _hlo.XlaComputation(file.read_bytes()).as_hlo_text(print_large_constants=True)
    # What is copied as it is to be given back has no counterpart in what the compiler reads.
    module = _hlo.hlo_module_from_text(text.replace(" copy(", " reshape("))
    whole = _hlo.XlaComputation(module.as_serialized_hlo_module_proto())
    with mlir.make_ir_context():
        read = ir.Module.parse(xla_client._xla.mlir.xla_computation_to_mlir_module(whole))
        options = xla_client.CompileOptions()
        options.num_replicas = options.num_partitions = 1
        options.device_assignment = xla_client.DeviceAssignment.create(np.zeros((1, 1), np.int32))
        began = time.perf_counter()
        made = devices[0].client.compile(read, xla_client.DeviceList(tuple(devices[:1])), options)
    seconds = time.perf_counter() - began
    memory, cost = made.get_compiled_memory_stats(), made.cost_analysis()
    needed = memory.argument_size_in_bytes + memory.output_size_in_bytes
    needed += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return {"compile_seconds": seconds, "memory_bytes": needed, "flops": cost["flops"]}


def main(topology: str, folder: str) -> None:
    """Compiles all programs in a folder."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    programs = {}
    for file in sorted(Path(folder).glob("*.hlo")):
        programs[file.name] = compiled(file, devices)
        print(file.name, programs[file.name], file=sys.stderr, flush=True)
    versions = {name: importlib.metadata.version(name) for name in ("jax", "libtpu")}
    print(json.dumps({"programs": programs, "versions": versions}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
