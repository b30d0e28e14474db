"""The layout of the package: a floor imports downwards only, and rooms stay apart.

The imports are read from the source, those inside functions and those for type checkers included.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

import sft_keras

PACKAGE = Path(sft_keras.__file__).parent
FLOORS = (
    "core",
    "cli",
    "recipe",
    "report",
    "data",
    "backbones",
    ("vision", "text"),
    "distributed",
    "models",
    "evaluation",
    "runs",
    "tasks",
    "cache",
    "training",
    "check",
    "export",
    "inference",
    "pipeline",
    "sweeps",
    "serving",
    "demo",
    "notebook",
)
"""The folders of the package, from the ground up; those in one tuple stand side by side."""
MOST_AT_THE_TOP = 8


def read_imports(package: Path) -> dict[str, set[str]]:
    """Return {module: modules of the package that it imports anywhere}, named from the package."""
    files = {_module_name(package, path): path for path in package.rglob("*.py")}
    return {name: _imported(path, package.name, files) for name, path in files.items()}


def find_cycles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Return the sets of modules that import each other, directly or through others."""
    reached = {name: _reachable(name, imports) for name in imports}
    cycles = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in imports
        if name in reached[name]
    }
    return sorted(sorted(cycle) for cycle in cycles)


def upward_imports(imports: dict[str, set[str]]) -> list[str]:
    """Return "module imports module" for each import from a lower floor of a higher one."""
    floors = {
        folder: number
        for number, folders in enumerate(FLOORS)
        for folder in ([folders] if isinstance(folders, str) else folders)
    }

    def floor(module: str) -> tuple[int, str]:
        folder = module.partition(".")[0]
        return floors.get(folder, len(FLOORS)), folder

    faults = []
    for module, targets in imports.items():
        for target in targets:
            (here, folder), (there, other) = floor(module), floor(target)
            # The public names of the top level load lazily and point everywhere.
            if module != "" and (there > here or (there == here and folder != other)):
                faults.append(f"{module} imports {target}")
    return sorted(faults)


def imports_between_rooms(imports: dict[str, set[str]]) -> list[str]:
    """Return "module imports module" for each import of one task's room by another."""

    def room(module: str) -> str | None:
        return match[1] if (match := re.match(r"tasks\.(\w+)\.", module + ".")) else None

    rooms = {module: room(module) for module in imports}
    folders = {room for module, room in rooms.items() if module.startswith(f"tasks.{room}.")}
    return sorted(
        f"{module} imports {target}"
        for module, targets in imports.items()
        for target in targets
        if module.startswith("tasks.")
        and rooms[target] in folders
        and rooms[target] != rooms[module]
    )


def _reachable(start: str, imports: dict[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = list(imports[start])
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += imports[name]
    return reached


def _module_name(package: Path, path: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path, package: str, known: Iterable[str]) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    inside = {name.partition(".")[2] for name in names if name.startswith(f"{package}.")}
    return {name for name in inside if name in known}


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    return read_imports(PACKAGE)


def test_no_module_imports_itself_through_others(imports):
    assert find_cycles(imports) == []


def test_floors_import_downwards_only(imports):
    assert upward_imports(imports) == []


def test_rooms_of_tasks_do_not_import_each_other(imports):
    assert imports_between_rooms(imports) == []


def test_every_folder_has_its_floor():
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/*.py")}
    known = {name for floor in FLOORS for name in ([floor] if isinstance(floor, str) else floor)}
    assert folders == known


def test_few_modules_stand_at_the_top():
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_AT_THE_TOP


LONGEST_FUNCTION = 60
LONGER = {
    # A public function whose docstring explains each of its options.
    ("pipeline.finetune", "finetune"),
}


def test_functions_are_short():
    long = {
        (_module_name(PACKAGE, path), node.name): length
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    }
    assert set(long) <= LONGER, long
