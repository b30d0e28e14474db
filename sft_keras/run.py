"""Fine-tune a pretrained model as a recipe describes, or compare several trials.

    python -m sft_keras.run --recipe=quickstart

The run folder receives the trained model, a SavedModel and a report. The flags choose:

    recipe       --recipe, --set, --data_dir, --exclude; --list and --show print and exit
    trying out   --dry_run, --smoke
    trials       --sweep, --seeds, --folds, --compare_backbones
    run folder   --run_dir, --overwrite, --resume, --allow_changed, --log
    devices      --strategy, --virtual_devices, --worker_timeout, --data_service
"""

# TensorFlow is imported only once the recipe and the flags have been checked.

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from absl import flags

from sft_keras.cli.command import run_command
from sft_keras.cli.tensorflow import start_tensorflow
from sft_keras.core.errors import RecipeError
from sft_keras.core.output import join_command
from sft_keras.data.service.dispatcher import require_data_service
from sft_keras.distributed.cluster import WORKER_TIMEOUT, Strategy, resolve_cluster
from sft_keras.recipe.loader import LoadedRecipe, list_recipes, load_recipe, to_lines
from sft_keras.recipe.recipe import Recipe
from sft_keras.runs.console import Log
from sft_keras.runs.folder import RECIPE, is_finished, require_begun, require_usable, unfinished_run
from sft_keras.sweeps.plan import TrialPlan, plan_trials

_RECIPE = flags.DEFINE_string(
    "recipe", None, "Name of a built-in recipe (see --list), or path of a .py or .json file."
)
_SET = flags.DEFINE_multi_string(
    "set", [], "PATH=VALUE: override a field, e.g. --set=stages.top.learning_rate=1e-4. Repeatable."
)
_LIST = flags.DEFINE_bool("list", False, "List the built-in recipes and exit.")
_SHOW = flags.DEFINE_bool("show", False, "Print the recipe with all overrides and exit.")
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Build the model, train one batch per stage, print sizes and estimates."
)
_SMOKE = flags.DEFINE_bool(
    "smoke", False, "Run end to end within seconds, on synthetic data and random weights."
)
_RUN_DIR = flags.DEFINE_string("run_dir", None, "The run folder; default: a new one in runs/.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of tensorflow-datasets; short for --set=data.data_dir=..."
)
_EXCLUDE = flags.DEFINE_string(
    "exclude",
    None,
    "File with the ids of examples to drop; short for --set=data.exclude=...",
)
_SWEEP = flags.DEFINE_multi_string(
    "sweep",
    [],
    "PATH=VALUE,VALUE,...: train one trial per value and compare them on the validation split, "
    "e.g. --sweep=stages.head.learning_rate=1e-4,1e-3. Several make a grid. Separate values that "
    "contain commas with ';'.",
)
_SEEDS = flags.DEFINE_integer(
    "seeds", None, "Train with this number of seeds on the same splits; report mean and range."
)
_FOLDS = flags.DEFINE_integer(
    "folds",
    None,
    "Cross-validation with this number of folds of the training and validation examples.",
)
_COMPARE_BACKBONES = flags.DEFINE_list(
    "compare_backbones",
    [],
    "PRESET,PRESET,...: train the first stage's head on each frozen backbone.",
)
_RESUME = flags.DEFINE_string(
    "resume",
    None,
    "Resume a stopped run: its folder; or auto for the run in --run_dir or the recipe's latest "
    "unfinished run in runs/, or else a new run.",
)
_ALLOW_CHANGED = flags.DEFINE_multi_string(
    "allow_changed",
    [],
    "PATH: a field that may differ from the recipe of the resumed run; data to permit other "
    "examples. Repeatable.",
)
_STRATEGY: flags.FlagHolder[Any] = flags.DEFINE_enum(  # a `Strategy`
    "strategy",
    "auto",
    get_args(Strategy),
    "Devices to train on. one: a single device; mirrored: all GPUs of this machine; tpu: all "
    "cores of its TPU; multi_worker: one device in each process of TF_CONFIG; auto: what is "
    "available.",
)
_VIRTUAL_DEVICES = flags.DEFINE_integer(
    "virtual_devices",
    0,
    "Split the CPU into this number of devices, to try out mirrored.",
    lower_bound=0,
)
_WORKER_TIMEOUT = flags.DEFINE_float(
    "worker_timeout",
    WORKER_TIMEOUT,
    "Seconds to wait for the other workers to start.",
    lower_bound=0.0,
)
_DATA_SERVICE = flags.DEFINE_string(
    "data_service",
    None,
    "grpc://HOST:PORT: read and decode image files with the workers of a tf.data service, see "
    "python -m sft_keras.data_service --help. The batches are the same as without it.",
)
_LOG: flags.FlagHolder[Any] = flags.DEFINE_enum(  # a `Log`
    "log",
    "plain",
    get_args(Log),
    "Console output. plain: all lines; quiet: only warnings and results; json: one object per "
    "line. log.txt in the run folder always has all lines.",
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the earlier run in --run_dir.")


def main(argv: Sequence[str]) -> None:
    """Run the command: train a recipe, compare trials, or only print."""
    if len(argv) > 1:
        raise RecipeError(f"Flags begin with --. Received: {' '.join(argv[1:])!r}. See --help.")
    if _LIST.value:
        _print_recipes()
        return
    run_dir = _resumed_folder() if _RESUME.present else None
    name = _recipe_name(run_dir)
    overrides = _overrides()
    _require_compatible_flags()
    loaded = load_recipe(name, overrides)
    if _SHOW.value:
        print("\n".join(to_lines(loaded.recipe)))
        return
    if _SMOKE.value:
        loaded = dataclasses.replace(loaded, recipe=loaded.recipe.task.smoke_recipe(loaded.recipe))
    loaded.recipe.data.require_path()
    if _DATA_SERVICE.value is not None:
        if _has_trials():
            raise RecipeError(
                "--data_service is for a run of one recipe: trials read the data once, together. "
                "Remove it."
            )
        require_data_service(_DATA_SERVICE.value, loaded.recipe)
    if _DRY_RUN.value:
        _dry_run(loaded)
        return
    plan = _trial_plan(loaded.recipe) if _has_trials() else None
    _require_usable_folder(run_dir, plan)
    if plan is not None:
        _run_trials(loaded, plan)
    elif run_dir is not None and is_finished(run_dir):
        print(f"The run in {run_dir} is finished. Its report: {run_dir / 'report.html'}")
    else:
        _finetune(name, overrides, run_dir)


def _recipe_name(run_dir: Path | None) -> str:
    """Return the name or path of the recipe; that of the resumed run if --recipe is missing."""
    if _RECIPE.value is not None:
        return _RECIPE.value
    if run_dir is not None:
        return str(run_dir / RECIPE)
    raise RecipeError("Pass a recipe: --recipe=NAME, e.g. --recipe=quickstart. See --list.")


def _overrides() -> list[str]:
    """Return the overrides of --set and of the flags that stand for one."""
    overrides = [*_SET.value]
    if _DATA_DIR.value is not None:
        overrides.append(f"data.data_dir={_DATA_DIR.value}")
    if _EXCLUDE.value is not None:
        overrides.append(f"data.exclude={_EXCLUDE.value}")
    return overrides


def _has_trials() -> bool:
    """Return whether the flags ask for several trials instead of one run."""
    return any(flag.present for flag in (_SWEEP, _COMPARE_BACKBONES, _SEEDS, _FOLDS))


def _require_compatible_flags() -> None:
    """Check that flags of a single run are not combined with those of several trials."""
    if _has_trials() and _RESUME.present:
        raise RecipeError("--resume continues a run of one recipe, not several trials.")
    if _has_trials() and (_SHOW.value or _DRY_RUN.value):
        raise RecipeError(
            "--show and --dry_run are for one recipe. Remove --sweep, --seeds, --folds and "
            "--compare_backbones, or try them with --smoke."
        )
    if _COMPARE_BACKBONES.present and not any(_COMPARE_BACKBONES.value):
        raise RecipeError("--compare_backbones must name presets, e.g. keras:mobilenet,keras:vgg16")


def _trial_plan(recipe: Recipe) -> TrialPlan:
    return plan_trials(
        recipe,
        sweep=_SWEEP.value,
        backbones=_COMPARE_BACKBONES.value,
        seeds=_SEEDS.value,
        folds=_FOLDS.value,
    )


def _require_usable_folder(run_dir: Path | None, plan: TrialPlan | None) -> None:
    """Check the strategy and, in the process that writes it, the folder of a new run."""
    cluster = resolve_cluster(_STRATEGY.value, run_dir or _RUN_DIR.value)
    if cluster is not None and plan is not None:
        raise RecipeError("Trials run in a single process. Pass --strategy=one.")
    if plan is not None and _STRATEGY.value in ("mirrored", "tpu"):
        raise RecipeError(
            "Trials run one at a time on a single device. "
            f"Received: --strategy={_STRATEGY.value}. Remove it."
        )
    is_chief = cluster is None or cluster.is_chief
    if _RUN_DIR.value is not None and run_dir is None and is_chief:
        require_usable(_RUN_DIR.value, _OVERWRITE.value)


def _resumed_folder() -> Path | None:
    """Return the folder of the run to resume; None for a new run, which auto allows."""
    if _OVERWRITE.value:
        raise RecipeError(
            "--resume continues a run and --overwrite deletes it. Pass only one of them."
        )
    if _RESUME.value is not None and _RESUME.value != "auto":
        if _RUN_DIR.value is not None:
            raise RecipeError("--resume=FOLDER is the run folder. Remove --run_dir.")
        return require_begun(_RESUME.value)
    if _RECIPE.value is None:
        raise RecipeError("--resume=auto needs --recipe, the recipe of the run.")
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
    return join_command(["python", "-m", "sft_keras.run", *sys.argv[1:]])


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
