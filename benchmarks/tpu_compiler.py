"""Compile programs for a TPU on a machine without one.

    python tpu_compiler.py TOPOLOGY FOLDER

Started by tpu_programs.py with the interpreter of another environment. Each FOLDER/*.hlo is a
serialized HloModuleProto. The last line of the output is a JSON object with the compile time in
seconds, the memory per core in bytes (without the program's code) and the FLOPs of each program.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # otherwise it queries the cloud metadata server for minutes
os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np
from jax._src.interpreters import mlir
from jax._src.lib import xla_client
from jax._src.lib.mlir import ir
from jax.experimental import topologies
from jaxlib import _hlo


def compile_program(file: Path, devices: list[Any]) -> dict[str, Any]:
    """Compile a program for the first device and return its compile time, memory and FLOPs."""
    text = _hlo.XlaComputation(file.read_bytes()).as_hlo_text(print_large_constants=True)
    # The copy of an unchanged input to an output has no equivalent in the compiler's MLIR input.
    module = _hlo.hlo_module_from_text(text.replace(" copy(", " reshape("))
    computation = _hlo.XlaComputation(module.as_serialized_hlo_module_proto())
    with mlir.make_ir_context():
        mlir_module = ir.Module.parse(
            xla_client._xla.mlir.xla_computation_to_mlir_module(computation)
        )
        options = xla_client.CompileOptions()
        options.num_replicas = options.num_partitions = 1
        options.device_assignment = xla_client.DeviceAssignment.create(np.zeros((1, 1), np.int32))
        start = time.perf_counter()
        executable = devices[0].client.compile(
            mlir_module, xla_client.DeviceList(tuple(devices[:1])), options
        )
    seconds = time.perf_counter() - start
    memory, cost = executable.get_compiled_memory_stats(), executable.cost_analysis()
    size = memory.argument_size_in_bytes + memory.output_size_in_bytes
    size += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return {"compile_seconds": seconds, "memory_bytes": size, "flops": cost["flops"]}


def main(topology: str, folder: str) -> None:
    """Compile all programs in a folder and print the results."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    programs = {}
    for file in sorted(Path(folder).glob("*.hlo")):
        programs[file.name] = compile_program(file, devices)
        print(file.name, programs[file.name], file=sys.stderr, flush=True)
    versions = {name: importlib.metadata.version(name) for name in ("jax", "libtpu")}
    print(json.dumps({"programs": programs, "versions": versions}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
