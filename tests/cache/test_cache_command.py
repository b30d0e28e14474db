"""`python -m sft_keras.cache`: shows, checks and clears the cache, without TensorFlow."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from stored_rows import flip

from sft_keras.cache.disk import DiskStore
from sft_keras.cache.listing import as_size, parse_size
from sft_keras.cache.rows import Field
from sft_keras.core.errors import RecipeError

FIELDS = (Field("uint16", (5, 100)),)
BOUNDARIES = ("block1", "block2", "block3")
DAY = 24 * 3600
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A cache of three shards of 1016 bytes a row, of 10, 20 and 30 rows, the last used last."""
    folder = tmp_path_factory.mktemp("cache") / "stored"
    store, now = DiskStore(folder), time.time()
    for number, boundary in enumerate(BOUNDARIES, 1):
        about = {"backbone": "tiny", "boundary": boundary, "stored": [["bfloat16", [5, 100]]]}
        if boundary == "block3":
            about["rows"] = "augmented views"
        count = 10 * number
        writer = store.writer(f"{number}" * 64, FIELDS, about)
        writer.append(
            np.random.default_rng(number).integers(0, 256, (count, 16), np.uint8),
            [np.full((count, 5, 100), number, np.uint16)],
        )
        writer.commit()
        (path,) = store.shards(f"{number}" * 64)
        os.utime(path / "about.json", (now - (4 - number) * DAY,) * 2)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy of `written` of the test's own."""
    return Path(shutil.copytree(written, tmp_path / "stored"))


@pytest.fixture
def run(tmp_path):
    """Runs the command where TensorFlow and Keras cannot be imported."""
    for name in ("tensorflow", "keras"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "SFT_KERAS_CACHE": str(tmp_path / "none")}

    def run(*flags):
        ran = subprocess.run(
            [sys.executable, "-m", "sft_keras.cache", *map(str, flags)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert "Traceback" not in ran.stderr and "imported" not in ran.stderr, ran.stderr
        return ran

    return run


def shard_of(folder, number):
    (path,) = DiskStore(folder).shards(f"{number}" * 64)
    return path


@pytest.mark.parametrize("flags", [[], ["--list"]])
def test_the_table_says_what_is_stored_and_how_much_it_is(folder, run, flags):
    ran = run(f"--folder={folder}", *flags)
    heading, *rows, _, total = ran.stdout.splitlines()
    assert re.split("  +", heading) == [
        *("what", "rows", "size", "dtype", "last used", "state", "shard")
    ]
    cells = [re.split("  +", row) for row in rows]
    assert [row[:4] for row in cells] == [
        ["tiny up to block3, augmented views", "30", "30.5 kB", "bfloat16"],
        ["tiny up to block2", "20", "20.3 kB", "bfloat16"],
        ["tiny up to block1", "10", "10.2 kB", "bfloat16"],
    ]
    for days, row in enumerate(cells, 1):
        path = shard_of(folder, 4 - days)
        used = time.localtime((path / "about.json").stat().st_mtime)
        place = f"{path.parent.name[:8]}/{path.name[:8]}"
        assert row[4:] == [time.strftime("%Y-%m-%d %H:%M", used), "ok", place]
    assert total == f"3 shards, 61.0 kB in {folder}"
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_table_names_what_its_description_or_lengths_show_to_be_damaged(folder, run):
    os.truncate(shard_of(folder, 1) / "rows", 7)
    (shard_of(folder, 2) / "about.json").write_text("junk")
    ran = run(f"--folder={folder}")
    assert ran.returncode == 0
    assert "damaged: rows has 7 bytes, expected 10000" in ran.stdout
    assert "damaged: about.json cannot be read" in ran.stdout
    assert ran.stdout.count("  ok  ") == 1


def test_the_table_counts_what_is_half_written(folder, run):
    writer = DiskStore(folder).writer("4" * 64, FIELDS, {})
    writer.append(np.zeros((100, 16), np.uint8), [np.zeros((100, 5, 100), np.uint16)])
    assert "3 shards, 61.0 kB" in run(f"--folder={folder}").stdout
    assert "1 half-written, 10" in run(f"--folder={folder}").stdout
    writer.discard()


@pytest.mark.parametrize("flag", ["--list", "--verify", "--prune=0"])
def test_a_missing_folder_is_no_error_and_stays_missing(tmp_path, run, flag):
    ran = run(f"--folder={tmp_path / 'cache'}", flag)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert str(tmp_path / "cache") in ran.stdout
    assert not (tmp_path / "cache").exists()


def test_an_empty_folder_is_no_error(tmp_path, run):
    (tmp_path / "cache").mkdir()
    ran = run(f"--folder={tmp_path / 'cache'}")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_folder_is_that_of_the_package_unless_named(tmp_path, run):
    assert run().stdout == f"Nothing is stored in {tmp_path / 'none'}\n"


def test_verifying_finds_all_in_order_and_changes_nothing(folder, run):
    before = {path: path.stat().st_mtime for path in folder.rglob("*")}
    ran = run(f"--folder={folder}", "--verify")
    assert ran.stdout.count("ok  ") == 3
    assert ran.stdout.endswith(f"0 of 3 shards are faulty; 61.0 kB in {folder}\n")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert {path: path.stat().st_mtime for path in folder.rglob("*")} == before


def test_verifying_names_what_is_damaged_and_fails(folder, run):
    for number, name in ((1, "rows"), (2, "names"), (3, "about.json")):
        flip(shard_of(folder, number) / name)
        ran = run(f"--folder={folder}", "--verify")
        assert ran.returncode == 1
        lines = ran.stdout.splitlines()
        faulty = [at for at, line in enumerate(lines) if line.startswith("FAULTY")]
        assert len(faulty) == number
        (at,) = [at for at in faulty if str(shard_of(folder, number)) in lines[at]]
        assert lines[at + 1].strip().startswith("damaged: ") and name in lines[at + 1]
        assert f"{number} of 3 shards are faulty" in ran.stdout


@pytest.mark.parametrize(
    ("size", "left"),
    [("60.96kB", 3), ("60.95kB", 2), ("31kB", 1), ("0", 0)],
)
def test_pruning_deletes_what_was_used_longest_ago_until_it_fits_and_says_so(
    folder, run, size, left
):
    paths = [shard_of(folder, number) for number in (1, 2, 3)]
    ran = run(f"--folder={folder}", f"--prune={size}")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [path.exists() for path in paths] == [number >= 3 - left for number in range(3)]
    *deleted, total = ran.stdout.splitlines()
    assert sorted(line.split("  ")[1] for line in deleted) == [
        f"tiny up to {boundary}" + ", augmented views" * (boundary == "block3")
        for boundary in BOUNDARIES[: 3 - left]
    ]
    sizes = {0: "nothing", 1: "1 shard, 10.2 kB", 2: "2 shards, 30.5 kB", 3: "3 shards, 61.0 kB"}
    rest = {0: "nothing", 1: "1 shard, 30.5 kB", 2: "2 shards, 50.8 kB", 3: "3 shards, 61.0 kB"}
    assert total == f"Deleted: {sizes[3 - left]}. Left: {rest[left]} in {folder}"


def test_pruning_says_why_something_damaged_was_deleted(folder, run):
    os.truncate(shard_of(folder, 3) / "rows", 7)
    ran = run(f"--folder={folder}", "--prune=1TB")
    assert ran.returncode == 0
    assert "damaged: rows has 7 bytes" in ran.stdout
    assert "Deleted: 1 shard" in ran.stdout and "Left: 2 shards" in ran.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prune=10GiB"], "units B, kB, MB, GB, TB (1 kB is 1000 bytes)"),
        (["--prune="], "--prune must be a size"),
        (["--list", "--verify"], "mutually exclusive"),
        (["--verify", "--prune=0"], "mutually exclusive"),
        (["clear"], "Flags begin with --. Received: 'clear'"),
        (["--folder="], "--folder must be the path of a folder"),
        (["--folder=~no_such_user_here/cache"], "Received: '~no_such_user_here/cache'"),
        ([f"--folder={__file__}"], "Not a directory"),
    ],
)
def test_a_mistake_is_answered_in_one_message(run, flags, message):
    ran = run(*flags)
    assert ran.returncode == 2
    assert message in ran.stderr
    assert ran.stdout == ""


def test_help_says_how_to_use_it(run):
    ran = run("--help")
    for words in ("--prune=10GB", "--folder", "--[no]verify", "--[no]list", "SFT_KERAS_CACHE"):
        assert words in ran.stdout


def test_what_cannot_be_deleted_is_said_and_fails(written, small_disk, make_read_only, run):
    folder = Path(shutil.copytree(written, small_disk / "cache"))
    make_read_only()
    ran = run(f"--folder={folder}", "--prune=0")
    assert ran.returncode == 1
    assert ran.stderr.count("cannot be deleted, skipped") == 3
    assert ran.stdout == f"Deleted: nothing. Left: 3 shards, 61.0 kB in {folder}\n"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("0.0", 0),
        ("12B", 12),
        ("1.5 kB", 1500),
        ("2mb", 2 * 10**6),
        (" 10GB ", 10**10),
        ("0.1TB", 10**11),
    ],
)
def test_sizes_are_decimal(text, count):
    assert parse_size(text) == count


def test_a_size_beyond_all_numbers_is_as_much_as_there_is():
    assert parse_size("9" * 400 + "TB") > 10**400


@pytest.mark.parametrize(
    "text", ["", "10", "-1GB", "GB", "1..5GB", ".5GB", "1,5GB", "1KiB", "1 G B", "nan", "1e3MB"]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(RecipeError, match="--prune must be a size"):
        parse_size(text)


def test_sizes_are_shown_in_the_largest_unit_that_fits():
    shown = [as_size(count) for count in (0, 999, 1000, 10**6 - 1, 10**6, 2_340_000_000, 10**15)]
    assert shown == ["0 B", "999 B", "1.0 kB", "1000.0 kB", "1.0 MB", "2.3 GB", "1000.0 TB"]
