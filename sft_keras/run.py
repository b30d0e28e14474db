"""The command line: flags to a recipe to `finetune`. No logic of its own.

    python -m sft_keras.run --recipe=quickstart

TensorFlow is imported only once the recipe and the flags are known to be right.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from absl import flags

from sft_keras.cli.command import run_command
from sft_keras.cli.tensorflow import start_tensorflow
from sft_keras.core.errors import RecipeError
from sft_keras.data.service.dispatcher import require_data_service
from sft_keras.distributed.cluster import WORKER_TIMEOUT, Strategy, resolve_cluster
from sft_keras.recipe.loader import LoadedRecipe, list_recipes, load_recipe, to_lines
from sft_keras.runs.console import Log
from sft_keras.runs.folder import RECIPE, is_finished, require_begun, require_usable, unfinished_run
from sft_keras.sweeps.plan import TrialPlan, plan_trials

_RECIPE = flags.DEFINE_string(
    "recipe", None, "Name of a recipe that comes along (see --list), or the path of a .py file."
)
_SET = flags.DEFINE_multi_string(
    "set", [], "PATH=VALUE: override a field, e.g. --set=stages.top.learning_rate=1e-4. Repeatable."
)
_LIST = flags.DEFINE_bool("list", False, "List the recipes that come along, and stop.")
_SHOW = flags.DEFINE_bool("show", False, "Print the recipe with all overrides, and stop.")
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Build everything, run a batch of each stage, print sizes and estimates."
)
_SMOKE = flags.DEFINE_bool(
    "smoke", False, "Run the whole path in seconds, on synthetic data and random weights."
)
_RUN_DIR = flags.DEFINE_string("run_dir", None, "Where to write; by default a new one in runs/.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where tensorflow-datasets keeps its data; short for --set=data.data_dir=..."
)
_EXCLUDE = flags.DEFINE_string(
    "exclude",
    None,
    "A file with the ids of examples to leave out; short for --set=data.exclude=...",
)
_SWEEP = flags.DEFINE_multi_string(
    "sweep",
    [],
    "PATH=VALUE,VALUE,...: train a variant for each value and compare them on validation, e.g. "
    "--sweep=stages.head.learning_rate=1e-4,1e-3. Repeated, a grid. Values with commas: separate "
    "them by ';'.",
)
_SEEDS = flags.DEFINE_integer(
    "seeds", None, "Train with so many seeds, on the same splits: mean and range."
)
_FOLDS = flags.DEFINE_integer(
    "folds", None, "Train so many times, each on another part of training and validation examples."
)
_COMPARE_BACKBONES = flags.DEFINE_list(
    "compare_backbones", [], "PRESET,PRESET,...: train the first stage's head on each, frozen."
)
_RESUME = flags.DEFINE_string(
    "resume",
    None,
    "Go on with a run that was stopped: its folder, or auto for the one in --run_dir or the latest "
    "of the recipe in runs/ that is not finished, if there is one.",
)
_ALLOW_CHANGED = flags.DEFINE_multi_string(
    "allow_changed",
    [],
    "PATH: a field in which the recipe may differ from what a resumed run began with; data for "
    "other examples. Repeatable.",
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "auto",
    get_args(Strategy),
    "What to train on: one device; mirrored, all GPUs of this machine; tpu, all cores of its TPU; "
    "multi_worker, a device in each of the processes that TF_CONFIG names. auto takes what there "
    "is.",
)
_VIRTUAL_DEVICES = flags.DEFINE_integer(
    "virtual_devices", 0, "Split the CPU into so many devices, to try mirrored.", lower_bound=0
)
_WORKER_TIMEOUT = flags.DEFINE_float(
    "worker_timeout", WORKER_TIMEOUT, "Seconds to wait for the other workers.", lower_bound=0.0
)
_DATA_SERVICE = flags.DEFINE_string(
    "data_service",
    None,
    "grpc://HOST:PORT: have the workers of a tf.data service read and decode image files, see "
    "python -m sft_keras.data_service --help. The batches are those of a run without it.",
)
_LOG = flags.DEFINE_enum(
    "log",
    "plain",
    get_args(Log),
    "What is printed: plain lines; quiet, only warnings and what came out; json, an object a line. "
    "RUN/log.txt has all lines.",
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Delete the earlier run in --run_dir first.")


def main(argv: Sequence[str]) -> None:
    """Runs what the flags ask for."""
    if len(argv) > 1:
        raise RecipeError(f"Flags begin with --. Received: {' '.join(argv[1:])!r}. See --help.")
    if _LIST.value:
        _print_recipes()
        return
    run_dir = _resumed_folder() if _RESUME.present else None
    name = _RECIPE.value
    if name is None and run_dir is not None:
        name = str(run_dir / RECIPE)
    if name is None:
        raise RecipeError("Say which recipe: --recipe=NAME, e.g. --recipe=quickstart. See --list.")
    overrides = [*_SET.value]
    if _DATA_DIR.value is not None:
        overrides.append(f"data.data_dir={_DATA_DIR.value}")
    if _EXCLUDE.value is not None:
        overrides.append(f"data.exclude={_EXCLUDE.value}")
    varies = any(flag.present for flag in (_SWEEP, _COMPARE_BACKBONES, _SEEDS, _FOLDS))
    if varies and _RESUME.present:
        raise RecipeError("--resume goes on with a run of one recipe, and not with many trials.")
    if varies and (_SHOW.value or _DRY_RUN.value):
        raise RecipeError(
            "--show and --dry_run are for one recipe. Leave out --sweep, --seeds, --folds and "
            "--compare_backbones, or try them with --smoke."
        )
    if _COMPARE_BACKBONES.present and not any(_COMPARE_BACKBONES.value):
        raise RecipeError("--compare_backbones must name presets, e.g. keras:mobilenet,keras:vgg16")
    loaded = load_recipe(name, overrides)
    if _SHOW.value:
        print("\n".join(to_lines(loaded.recipe)))
        return
    if _SMOKE.value:
        loaded = dataclasses.replace(loaded, recipe=loaded.recipe.task.smoke_recipe(loaded.recipe))
    loaded.recipe.data.require_path()
    if _DATA_SERVICE.value is not None:
        if varies:
            raise RecipeError(
                "--data_service is for a run of one recipe: many trials read the data once, "
                "together. Leave it out."
            )
        require_data_service(_DATA_SERVICE.value, loaded.recipe)
    if _DRY_RUN.value:
        _dry_run(loaded)
        return
    plan = None
    if varies:
        plan = plan_trials(
            loaded.recipe,
            sweep=_SWEEP.value,
            backbones=_COMPARE_BACKBONES.value,
            seeds=_SEEDS.value,
            folds=_FOLDS.value,
        )
    cluster = resolve_cluster(_STRATEGY.value, run_dir or _RUN_DIR.value)
    if cluster is not None and plan is not None:
        raise RecipeError("Many trials are run in one process. Give them --strategy=one.")
    if plan is not None and _STRATEGY.value in ("mirrored", "tpu"):
        raise RecipeError(
            "Many trials are run on one device, each with all of it. "
            f"Received: --strategy={_STRATEGY.value}. Leave it out."
        )
    is_chief = cluster is None or cluster.is_chief
    if _RUN_DIR.value is not None and run_dir is None and is_chief:
        require_usable(_RUN_DIR.value, _OVERWRITE.value)
    if plan is not None:
        _run_trials(loaded, plan)
        return
    if run_dir is not None and is_finished(run_dir):
        print(f"The run in {run_dir} is finished. Its report: {run_dir / 'report.html'}")
        return
    _finetune(name, overrides, run_dir)


def _resumed_folder() -> Path | None:
    """Returns the folder of the run to go on with; None for a new one, which auto allows."""
    if _OVERWRITE.value:
        raise RecipeError("--resume goes on with a run and --overwrite deletes it. Give one.")
    if _RESUME.value != "auto":
        if _RUN_DIR.value is not None:
            raise RecipeError("--resume=FOLDER says where the run is. Leave out --run_dir.")
        return require_begun(_RESUME.value)
    if _RECIPE.value is None:
        raise RecipeError("--resume=auto needs --recipe, as the run was begun with.")
    if _RUN_DIR.value is None:
        return unfinished_run(Path(_RECIPE.value).stem)
    path = Path(_RUN_DIR.value).expanduser()
    return path if (path / RECIPE).is_file() else None


def _print_recipes() -> None:
    recipes = list_recipes()
    width = max(map(len, recipes), default=0)
    for name, description in recipes.items():
        print(f"{name:{width}}  {description}")


def _dry_run(loaded: LoadedRecipe) -> None:
    start_tensorflow()
    from sft_keras.pipeline.dry_run import dry_run

    for line in dry_run(loaded.recipe):
        print(line, flush=True)


def _run_trials(loaded: LoadedRecipe, plan: TrialPlan) -> None:
    start_tensorflow()
    from sft_keras.sweeps.run import run_trials

    run_trials(
        loaded,
        plan,
        run_dir=_RUN_DIR.value,
        overwrite=_OVERWRITE.value,
        smoke=_SMOKE.value,
        command=_command(),
        log=_LOG.value,
    )


def _command() -> str:
    return shlex.join(["python", "-m", "sft_keras.run", *sys.argv[1:]])


def _finetune(name: str, overrides: Sequence[str], resumed: Path | None) -> None:
    start_tensorflow()
    from sft_keras.pipeline.finetune import finetune

    finetune(
        name,
        overrides=overrides,
        run_dir=_RUN_DIR.value if resumed is None else resumed,
        overwrite=_OVERWRITE.value,
        resume=resumed is not None,
        allow_changed=_ALLOW_CHANGED.value,
        smoke=_SMOKE.value,
        command=_command(),
        strategy=_STRATEGY.value,
        worker_timeout=_WORKER_TIMEOUT.value,
        virtual_devices=_VIRTUAL_DEVICES.value,
        data_service=_DATA_SERVICE.value,
        log=_LOG.value,
    )


if __name__ == "__main__":
    run_command(main)
