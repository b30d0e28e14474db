"""Commands under a simulation of Windows, see tests/support/windows. Not a substitute for it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SIMULATION = Path(__file__).parent / "support" / "windows"
# Characters and names that Windows does not allow in paths.
INVALID = re.compile(
    r'[<>:"|?*\\\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE
)


def run_on_windows(arguments, folder):
    path = os.pathsep.join([str(SIMULATION), str(Path(__file__).parent.parent)])
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "PYTHONIOENCODING": "cp1252",
        "PYTHONUTF8": "0",
        "SFT_KERAS_CACHE": str(folder / "cache"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode("cp1252", "replace")[-3000:]
    return ran.stdout.decode("cp1252")


FILES = """
import errno, os
from pathlib import Path
from sft_keras.core.files import sync_file, sync_folder, write_atomic
from sft_keras.core.snapshot import Snapshot, read_snapshot, write_snapshot
from sft_keras.runs.folder import RunFolder
import numpy as np

run = RunFolder.create("a", "run", overwrite=False)
run.write_json("recipe.json", {"name": "\\N{PINEAPPLE}"})
run.write_json("recipe.json", {"name": "\\N{PINEAPPLE} again"})
run.line("note  \\N{PINEAPPLE} \\u03b2")
write_snapshot(Path("run/one"), Snapshot({"x": 1}, {"a": np.arange(3)}))
assert read_snapshot(Path("run/one")).facts == {"x": 1}
with RunFolder.create("a", "run", overwrite=True).discarded_on_error():
    pass
try:  # The simulation is in force.
    os.rename(Path("run"), Path("."))
except FileExistsError:
    print("simulated")
"""


def test_run_folders_and_snapshots_are_written_on_windows(tmp_path):
    said = run_on_windows(["-c", FILES], tmp_path)
    assert said.splitlines() == ["note  \\ud83c\\udf4d \\u03b2", "simulated"]


def test_recipes_are_listed_on_windows(tmp_path):
    recipe = tmp_path / "recipes"
    recipe.mkdir()
    said = run_on_windows(["-m", "sft_keras.run", "--list"], tmp_path)
    assert "quickstart" in said


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(("\N{PINEAPPLE}", "βeta")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for index in range(12):
            Image.new("RGB", (32, 32), (100 * number + index, 60, 20)).save(folder / f"{index}.png")
    return tmp_path


@pytest.mark.slow
def test_a_recipe_is_tried_trained_and_checked_on_windows(photos, tiny_preset):
    recipe = (
        "--recipe=my_images",
        "--set=data.source=folder:photos",
        "--set=data.batch_size=4",
        f"--set=backbone.preset=hub:{tiny_preset}",
        "--set=backbone.image_size=32x32",
        "--set=backbone.arguments.scale=0.0078",
        "--set=backbone.arguments.offset=-1.0",
        "--set=stages.head.epochs=1",
        "--set=stages.top.epochs=1",
        "--set=stages.top.unfreeze=1",
    )
    said = run_on_windows(["-m", "sft_keras.run", *recipe, "--dry_run"], photos)
    assert re.search(r"memory  peak [\d,]+ MB", said)
    trained = ["-m", "sft_keras.run", *recipe, "--run_dir=run", "--set=cache=disk"]
    said = run_on_windows(trained, photos)
    assert "\nreport  run" in said
    report = json.loads((photos / "run" / "report.json").read_text(encoding="utf-8"))
    assert set(report["data"]["class_names"]) == {"\N{PINEAPPLE}", "βeta"}
    names = [path.name for path in (photos / "run").rglob("*")]
    assert [name for name in names if INVALID.search(name)] == []
