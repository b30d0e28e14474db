"""Find, list, load and print recipes. Does not import TensorFlow."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.errors import RecipeError
from sft_keras.recipe.in_memory import InMemorySource
from sft_keras.recipe.json_file import read_recipe
from sft_keras.recipe.overrides import apply_overrides
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.section import did_you_mean
from sft_keras.recipe.task_config import TaskConfig
from sft_keras.recipe.task_registry import task_kind


@dataclasses.dataclass(frozen=True)
class LoadedRecipe:
    """A recipe and its origin.

    Attributes:
      name: The file name without its suffix, or "recipe" for one built in Python.
      description: The first line of the file's docstring.
      recipe: The validated recipe, with all overrides.
    """

    name: str
    description: str
    recipe: Recipe


def load_recipe(
    name_or_path: str | os.PathLike[str] | Recipe, overrides: Sequence[str] = ()
) -> LoadedRecipe:
    """Load a recipe, apply overrides and validate it.

    A .py file is executed, so load only files that you would run. A .json file, such as a run's
    recipe.json, executes nothing.

    Args:
      name_or_path: Name of a built-in recipe, path of a .py or .json file, or a recipe.
      overrides: "PATH=VALUE" each, as for `--set`.

    Raises:
      RecipeError: If there is no such recipe, its file fails, an override does not fit, or the
        recipe has faults; all faults are listed at once.

    Example:
      >>> from sft_keras import load_recipe
      >>> loaded = load_recipe("quickstart", ["seed=7", "stages.head.epochs=2"])
      >>> loaded.name, loaded.recipe.seed, loaded.recipe.stages[0].epochs
      ('quickstart', 7, 2)
    """
    if isinstance(name_or_path, Recipe):
        loaded = LoadedRecipe("recipe", "A recipe made in Python.", name_or_path)
    else:
        loaded = _from_file(_find(os.fspath(name_or_path)))
    recipe = apply_overrides(loaded.recipe, overrides)
    recipe.validate()
    return dataclasses.replace(loaded, recipe=recipe)


def list_recipes() -> dict[str, str]:
    """Return {name: first line of the docstring} of the built-in recipes.

    Example:
      >>> from sft_keras import list_recipes
      >>> "quickstart" in list_recipes()
      True
    """
    return {path.stem: _description(path) for path in _recipe_files()}


def to_plain(value: Any) -> Any:
    """Return a recipe, or a part of one, as plain values that JSON can represent."""
    if _is_section(value):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": task_kind(value), **fields} if _is_polymorphic(value) else fields
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def to_lines(recipe: Recipe) -> list[str]:
    """Return a recipe as "path: value" lines, with the paths that `--set` accepts."""
    return list(_lines("", recipe))


def _lines(path: str, value: Any) -> Iterator[str]:
    prefix = f"{path}." if path else ""
    if _is_section(value):
        if _is_polymorphic(value):
            yield f"{path}: {type(value).__name__}"
        for field in dataclasses.fields(value):
            yield from _lines(f"{prefix}{field.name}", getattr(value, field.name))
    elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        for item in value:
            lines = _lines(f"{prefix}{item.name}", item)
            yield from (line for line in lines if not line.startswith(f"{prefix}{item.name}.name:"))
    else:
        yield f"{path}: {value!r}"


def _is_section(value: Any) -> bool:
    """Return whether a value's fields are listed; in-memory data has a short repr instead."""
    return dataclasses.is_dataclass(value) and not isinstance(value, InMemorySource)


def _is_polymorphic(value: Any) -> bool:
    """Return whether a section's class is a choice of its own, as a task's is."""
    return isinstance(value, TaskConfig)


def _recipe_files() -> list[Path]:
    """Return the built-in recipe files: beside the package in a checkout, else inside it."""
    package = Path(__file__).parent.parent
    for folder in (package / "recipes", package.parent / "recipes"):
        if folder.is_dir():
            return sorted(path for path in folder.glob("*.py") if not path.stem.startswith("_"))
    return []


def _find(name: str) -> Path:
    if name.endswith((".py", ".json")):
        path = Path(name).expanduser()
        if not path.is_file():
            raise RecipeError(
                f"There is no recipe file {name!r}. Pass the path of a .py or .json file."
            )
        return path
    files = {path.stem: path for path in _recipe_files()}
    if name not in files:
        raise RecipeError(
            f"There is no recipe {name!r}.{did_you_mean(name, files)} "
            f"Built-in recipes: {', '.join(files)}. For a file pass --recipe=PATH.py or PATH.json."
        )
    return files[name]


def _from_file(path: Path) -> LoadedRecipe:
    if path.suffix == ".json":
        return LoadedRecipe(path.stem, f"The recipe in {path.name}.", read_recipe(path))
    spec = importlib.util.spec_from_file_location(f"sft_keras_recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"The recipe {path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
    except Exception as error:
        raise RecipeError(
            f"The recipe {path} could not be executed: {type(error).__name__}: {error}"
        ) from error
    recipe = getattr(module, "recipe", None)
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            f"The recipe {path} must set `recipe` to an sft_keras.Recipe. Received: {recipe!r}."
        )
    return LoadedRecipe(path.stem, _description(path), recipe)


def _description(path: Path) -> str:
    """Return the first line of a recipe file's docstring, without executing the file."""
    try:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    except SyntaxError:
        return "(cannot be read: not valid Python)"
    return (docstring or "").partition("\n")[0]
