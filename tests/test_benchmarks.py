"""The programs in benchmarks/ and tools/ use names that exist in the package."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("tools/*.py")])


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_imported_names_exist(program):
    # Parsed instead of imported, because two programs may define the same flag.
    for node in ast.walk(ast.parse(program.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sft_keras"):
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")


def test_tpu_programs_names_all_traced_functions():
    program = ast.parse((ROOT / "benchmarks" / "tpu_programs.py").read_text(encoding="utf-8"))
    (kinds,) = (
        ast.literal_eval(node.value)
        for node in program.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_KINDS"
    )
    assert _traced_functions() == set(kinds)


def _traced_functions() -> set[str]:
    """Return the `__qualname__` of every function that the package passes to `Devices.trace`."""
    names = set()
    for path in ROOT.glob("sft_keras/**/*.py"):
        text = path.read_text(encoding="utf-8")
        if ".trace(" in text:
            names |= set(_names_in(ast.parse(text), ""))
    return names


def _names_in(node: ast.AST, scope: str):
    for child in ast.iter_child_nodes(node):
        inner = scope
        if isinstance(child, ast.ClassDef):
            inner = f"{scope}{child.name}."
        elif isinstance(child, ast.FunctionDef):
            inner = f"{scope}{child.name}.<locals>."
        elif isinstance(child, ast.Call) and getattr(child.func, "attr", "") == "trace":
            function = child.args[0]
            if isinstance(function, ast.Lambda):
                yield f"{scope}<lambda>"
            elif isinstance(function, ast.Attribute):  # a method of the same class
                yield f"{scope.partition('.')[0]}.{function.attr}"
        yield from _names_in(child, inner)
