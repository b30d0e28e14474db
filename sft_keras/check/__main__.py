"""Check a recipe's data before training on it.

    python -m sft_keras.check --recipe=my_images --set=data.source=folder:my_folder

Writes a folder with check.html (affected images or texts side by side), check.json and exclude/,
one list of suspicious examples per finding to review and pass to --exclude. The exit status is 1 if
something would invalidate results.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from absl import flags

from sft_keras.check.table import table
from sft_keras.cli.command import run_command
from sft_keras.cli.tensorflow import start_tensorflow
from sft_keras.core.errors import RecipeError
from sft_keras.core.files import write_atomic
from sft_keras.core.output import join_command
from sft_keras.core.reporter import CONSOLE, SILENT, CallbackReporter
from sft_keras.recipe.loader import load_recipe
from sft_keras.recipe.recipe import Recipe
from sft_keras.runs.folder import RunFolder

_RECIPE = flags.DEFINE_string("recipe", None, "Recipe to check, as for sft_keras.run.")
_SET = flags.DEFINE_multi_string("set", [], "PATH=VALUE: override a field, as for sft_keras.run.")
_EXCLUDE = flags.DEFINE_string(
    "exclude",
    None,
    "File with the ids of examples to exclude; short for --set=data.exclude=...",
)
_JSON = flags.DEFINE_bool("json", False, "Print only the findings, as JSON.")
_OUT = flags.DEFINE_string("out", None, "Output folder. Default: a new folder in checks/.")


EXCLUDE = "exclude"
"""The folder of the lists of examples that may be excluded."""


def main(argv: Sequence[str]) -> None:
    """Check the data of the recipe; exit with 1 if something would invalidate results."""
    if len(argv) > 1:
        raise RecipeError(f"Flags begin with --. Received: {' '.join(argv[1:])!r}. See --help.")
    if _RECIPE.value is None:
        raise RecipeError("A recipe is required: --recipe=NAME, e.g. --recipe=my_images.")
    overrides = [*_SET.value]
    if _EXCLUDE.value is not None:
        overrides.append(f"data.exclude={_EXCLUDE.value}")
    loaded = load_recipe(_RECIPE.value, overrides)
    loaded.recipe.data.require_path()
    folder = RunFolder.create(loaded.name, _OUT.value, overwrite=False, parent="checks")
    with folder.discarded_on_error():
        spoils = _check(loaded.name, loaded.recipe, folder)
    if spoils:
        sys.exit(1)


def _check(name: str, recipe: Recipe, folder: RunFolder) -> bool:
    """Run the check, write the files and print; return whether results would be invalid."""
    start_tensorflow()
    from sft_keras.check.inspect import check_data
    from sft_keras.check.report import write_page

    lines = SILENT if _JSON.value else CONSOLE
    reporter = CallbackReporter(on_line=lines.line, on_progress=folder.progress)
    command = join_command(["python", "-m", "sft_keras.check", *sys.argv[1:]])
    checked, prepared = check_data(recipe, reporter)
    text = json.dumps(checked.as_json(), indent=2, ensure_ascii=False)
    write_atomic(folder.file("check.json"), text + "\n")
    lists = checked.exclude_lists()
    if lists:
        folder.file(EXCLUDE).mkdir()
    for list_name, content in lists.items():
        write_atomic(folder.file(EXCLUDE) / list_name, content)
    write_page(checked, prepared, name, command, folder.file("check.html"))
    if _JSON.value:
        print(text)
    else:
        for line in table(checked):
            print(line)
        print(f"page  {folder.file('check.html')}")
        listed = folder.file(EXCLUDE)
        for list_name in lists:
            print(f"exclude  review {listed / list_name}, then pass it as --exclude=FILE")
        if len(lists) > 1:
            print(f"exclude  or delete the lists to ignore and pass --exclude={listed}")
    return checked.spoils


if __name__ == "__main__":
    run_command(main)
