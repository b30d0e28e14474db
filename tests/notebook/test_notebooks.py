"""The notebooks as they are kept: without outputs, for Colab, with settings that exist."""

import ast
import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from sft_keras import load_recipe

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import notebooks as tool

ROOT = Path(__file__).parents[2]
NAMES = {"quickstart": "quickstart", "your_images": "my_images", "your_text": "bert_sentiment"}


def cells(name):
    return json.loads(tool.notebooks()[name].read_text(encoding="utf-8"))["cells"]


def code(name):
    return ["".join(cell["source"]) for cell in cells(name) if cell["cell_type"] == "code"]


def settings_of(name):
    (cell,) = [each for each in cells(name) if tool.SETTINGS in each["metadata"].get("tags", ())]
    values = {}
    exec("".join(cell["source"]), values)
    return values


def test_all_of_them_are_looked_at():
    assert set(tool.notebooks()) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_holds_nothing_of_a_run(name):
    text = tool.notebooks()[name].read_text(encoding="utf-8")
    assert tool.stripped(text) == text


def test_what_a_run_leaves_is_stripped_and_tags_are_kept():
    text = tool.notebooks()["quickstart"].read_text(encoding="utf-8")
    ran = json.loads(text)
    ran["metadata"]["colab"] = {"provenance": []}
    for number, cell in enumerate(ran["cells"]):
        cell["metadata"]["execution"] = {"iopub.status.idle": "2026"}
        if cell["cell_type"] == "code":
            cell |= {"execution_count": number, "outputs": [{"output_type": "stream"}]}
    assert tool.stripped(json.dumps(ran)) == text


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_in_colab_and_installs_only_what_is_missing(name):
    first = "".join(cells(name)[0]["source"])
    address = f"https://colab.research.google.com/github/{tool.REPOSITORY}/blob/main/notebooks"
    assert f"({address}/{name}.ipynb)" in first.splitlines()[0]
    install, *rest = code(name)
    assert f"%pip install -q git+https://github.com/{tool.REPOSITORY}" in install
    assert install.index('find_spec("sft_keras") is None') < install.index("%pip")
    assert not re.search(r"^\s*[%!]", "\n".join(rest), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_its_addresses_name_one_repository(name):
    found = re.findall(r"github(?:\.com)?/([\w-]+/[\w-]+)", tool.notebooks()[name].read_text())
    assert set(found) == {tool.REPOSITORY}


@pytest.mark.parametrize("name", NAMES)
def test_the_fields_that_it_and_its_check_change_exist(name):
    settings = settings_of(name)
    short = {"changes": [], "preset": None}
    exec("\n".join(tool.short_settings(name)), short)
    changes = [*settings["changes"], *short["changes"]]
    assert len(short["changes"]) >= 2
    load_recipe(settings.get("recipe", NAMES[name]), changes)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_the_recipe_that_is_checked_here(name):
    trained = [
        ast.unparse(call.args[0])
        for source in code(name)[1:]
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "sft_keras.finetune"
    ]
    assert trained in ([repr(NAMES[name])], ["recipe"])


def test_the_preset_of_the_texts_is_a_real_one():
    assert settings_of("your_text")["preset"] == "hub:bert_tiny_en_uncased"


@pytest.mark.parametrize("name", NAMES)
def test_what_it_takes_from_the_package_is_there(name):
    taken = set()
    for source in code(name)[1:]:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom):
                taken |= {(node.module, each.name) for each in node.names}
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in (
                "notebook",
                "sft_keras",
            ):
                owner = ast.unparse(node.value)
                taken.add(("sft_keras.notebook" if owner == "notebook" else owner, node.attr))
    ours = {each for each in taken if each[0].split(".")[0] == "sft_keras"}
    assert len(ours) >= 8
    for module, attribute in ours:
        found = importlib.import_module(module)
        assert hasattr(found, attribute) or importlib.import_module(f"{module}.{attribute}")
