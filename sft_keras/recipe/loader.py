"""Finds, lists, loads and prints recipes. Does not import TensorFlow."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.errors import RecipeError
from sft_keras.recipe.in_memory import InMemorySource
from sft_keras.recipe.json_file import read_recipe
from sft_keras.recipe.overrides import apply_overrides
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.section import did_you_mean
from sft_keras.recipe.task_config import TaskConfig


@dataclasses.dataclass(frozen=True)
class LoadedRecipe:
    """A recipe with where it came from.

    Attributes:
      name: Its file's name without the ending, or "recipe" for one made in Python.
      description: The first line of its docstring.
      recipe: With all overrides, validated.
    """

    name: str
    description: str
    recipe: Recipe


def load_recipe(
    name_or_path: str | os.PathLike[str] | Recipe, overrides: Sequence[str] = ()
) -> LoadedRecipe:
    """Returns a recipe by the name of one that comes along, by the path of a file, or as it is.

    A recipe file that ends in .py is Python and is run: load only what you would run. One that ends
    in .json, such as a run's recipe.json, runs nothing.

    Raises:
      RecipeError: If there is none, it cannot be run, an override does not fit, or it has faults;
        all faults are listed at once.
    """
    if isinstance(name_or_path, Recipe):
        found = LoadedRecipe("recipe", "A recipe made in Python.", name_or_path)
    else:
        found = _from_file(_find(os.fspath(name_or_path)))
    recipe = apply_overrides(found.recipe, overrides)
    recipe.validate()
    return dataclasses.replace(found, recipe=recipe)


def list_recipes() -> dict[str, str]:
    """Returns {name: first line of its docstring} of the recipes that come along."""
    return {path.stem: _description(path) for path in _recipe_files()}


def to_plain(value: Any) -> Any:
    """Returns a recipe, or a part of one, as plain values that JSON can hold."""
    if _is_section(value):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields} if _is_chosen(value) else fields
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def to_lines(recipe: Recipe) -> list[str]:
    """Returns a recipe as "path: value" lines, with the paths that `--set` takes."""
    return list(_lines("", recipe))


def _lines(path: str, value: Any) -> Any:
    prefix = f"{path}." if path else ""
    if _is_section(value):
        if _is_chosen(value):
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
    """Whether a value has fields to be shown one by one; `Arrays` hold data and say it short."""
    return dataclasses.is_dataclass(value) and not isinstance(value, InMemorySource)


def _is_chosen(value: Any) -> bool:
    """Whether a section's class is itself a choice, as a task's is, and so has to be said."""
    return isinstance(value, TaskConfig)


def _recipe_files() -> list[Path]:
    """Returns the recipes' files: beside the package in a checkout, inside it once installed."""
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
                f"There is no recipe file {name!r}. Give a path that ends in .py or .json."
            )
        return path
    files = {path.stem: path for path in _recipe_files()}
    if name not in files:
        raise RecipeError(
            f"There is no recipe {name!r}.{did_you_mean(name, files)} "
            f"There are: {', '.join(files)}. Or give a file: --recipe=PATH.py or PATH.json."
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
            f"The recipe {path} could not be run: {type(error).__name__}: {error}"
        ) from error
    recipe = getattr(module, "recipe", None)
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            f"The recipe {path} must set `recipe` to a sft_keras.Recipe. Received: {recipe!r}."
        )
    return LoadedRecipe(path.stem, _description(path), recipe)


def _description(path: Path) -> str:
    """Returns the first line of a recipe's docstring, without running the file."""
    try:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    except SyntaxError:
        return "(cannot be read: not valid Python)"
    return (docstring or "").partition("\n")[0]
