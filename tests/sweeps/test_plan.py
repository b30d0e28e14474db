"""Which trials the flags ask for; every mistake is said before anything starts."""

import os
import subprocess
import sys

import pytest

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.core.errors import RecipeError
from sft_keras.sweeps.plan import one_run, plan_trials
from sft_keras.tasks import ImageClassification


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe(
        task=ImageClassification(),
        data=Data(source="digits"),
        backbone=Backbone(
            preset="keras:mobilenet", weights="mine.weights.h5", arguments={"alpha": 0.5}
        ),
        stages=(
            Stage(name="head", epochs=2, learning_rate=1e-3),
            Stage(name="top", epochs=2, learning_rate=1e-4, unfreeze=2),
        ),
        seed=5,
    )


def refused(recipe, **flags) -> str:
    with pytest.raises(RecipeError) as caught:
        plan_trials(recipe, **flags)
    return str(caught.value)


def test_a_sweep_over_several_fields_is_their_grid_the_first_varying_slowest(recipe):
    plan = plan_trials(
        recipe, sweep=["stages.head.learning_rate=1e-4, 1e-3", "data.batch_size=8,16"]
    )
    assert [point.name for point in plan.points] == [
        "stages.head.learning_rate=1e-4, data.batch_size=8",
        "stages.head.learning_rate=1e-4, data.batch_size=16",
        "stages.head.learning_rate=1e-3, data.batch_size=8",
        "stages.head.learning_rate=1e-3, data.batch_size=16",
    ]
    assert plan.points[1].overrides == ("stages.head.learning_rate=1e-4", "data.batch_size=16")
    assert plan.points[2].recipe.stages[0].learning_rate == 1e-3
    assert plan.points[2].recipe.data.batch_size == 8
    assert plan.points[2].recipe.stages[1] == recipe.stages[1]
    assert (plan.kind, plan.seeds, plan.folds, plan.repeats, plan.trials) == (
        "sweep",
        (5,),
        None,
        1,
        4,
    )


def test_values_that_hold_commas_are_separated_by_semicolons(recipe):
    plan = plan_trials(recipe, sweep=["backbone.image_size=64,64; 96,96", "task.hidden=32,16;"])
    assert [point.recipe.backbone.image_size for point in plan.points] == [(64, 64), (96, 96)]
    assert {point.recipe.task.hidden for point in plan.points} == {(32, 16)}


def test_seeds_are_counted_up_from_the_recipes_and_folds_share_it(recipe):
    seeds = plan_trials(recipe, seeds=3)
    assert (seeds.kind, seeds.seeds, seeds.folds, seeds.trials) == ("repeats", (5, 6, 7), None, 3)
    folds = plan_trials(recipe, folds=4)
    assert (folds.kind, folds.seeds, folds.folds, folds.trials) == ("repeats", (5,), 4, 4)
    assert [point.recipe for point in folds.points] == [recipe]
    assert plan_trials(recipe, sweep=["data.batch_size=8,16"], folds=3).trials == 6


def test_backbones_are_probed_with_the_first_stage_alone_and_all_of_them_frozen(recipe):
    free = plan_trials(recipe, sweep=["stages.head.unfreeze=1"]).points[0].recipe
    plan = plan_trials(free, backbones=["keras:mobilenet", "bundled:efficientnet_lite0"])
    assert plan.kind == "backbones"
    for point in plan.points:
        assert [stage.name for stage in point.recipe.stages] == ["head"]
        assert point.recipe.stages[0].unfreeze == 0
    own, other = plan.points
    assert own.recipe.backbone == recipe.backbone
    assert own.overrides == ()
    assert other.recipe.backbone == Backbone(preset="bundled:efficientnet_lite0")


def test_overrides_of_another_backbone_lead_to_the_same_section(recipe):
    point = plan_trials(recipe, backbones=["bundled:efficientnet_lite0"]).points[0]
    repeated = plan_trials(recipe, sweep=[f"{override};" for override in point.overrides])
    assert repeated.points[0].recipe.backbone == point.recipe.backbone
    assert repeated.points[0].recipe.stages == recipe.stages


def test_another_backbone_gets_random_weights_where_the_recipes_own_has(recipe):
    random = plan_trials(recipe, sweep=["backbone.weights=none"]).points[0].recipe
    point = plan_trials(random, backbones=["keras:vgg16"]).points[0]
    assert point.recipe.backbone.weights is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            {"sweep": ["a=1"], "backbones": ["keras:vgg16"]},
            "--compare_backbones cannot be combined",
        ),
        ({"seeds": 2, "folds": 2}, "--seeds and --folds cannot be combined"),
        ({"seeds": 1}, "--seeds must be 2 or more. Received: 1."),
        ({"folds": 0}, "--folds must be 2 or more. Received: 0."),
        ({"sweep": ["data.batch_size"]}, "must be PATH=VALUE,VALUE,..., e.g. stages.head"),
        ({"sweep": ["data.batch_size=,"]}, "Received: 'data.batch_size=,'."),
        ({"sweep": ["=1,2"]}, "Received: '=1,2'."),
        (
            {"sweep": ["data.batch_size=8,16,8"]},
            "--sweep=data.batch_size must name each value once. Received more than once: 8.",
        ),
        (
            {"sweep": ["data.batch_size=8", "data.batch_size=16"]},
            "--sweep must name each field once. Received more than once: data.batch_size.",
        ),
        (
            {"backbones": ["keras:vgg16", "keras:vgg16"]},
            "must name each preset once. Received more than once: keras:vgg16.",
        ),
    ],
)
def test_flags_that_make_no_plan_are_refused(recipe, flags, said):
    assert said in refused(recipe, **flags)


def test_every_value_that_does_not_fit_is_named_at_once(recipe):
    said = refused(recipe, sweep=["stages.haed.epochs=1", "task.dropout=0.1,much,more"])
    for expected in ("there is no stage 'haed'", "Did you mean 'head'?", "'much'", "'more'"):
        assert expected in said


def test_every_point_that_cannot_run_is_named_at_once(recipe):
    said = refused(recipe, sweep=["stages.head.learning_rate=-1,1e-3,0"])
    for name in ("-1", "0"):
        assert f"stages.head.learning_rate={name}: The recipe cannot run." in said
    assert "1e-3" not in said
    assert "a number greater than 0, or 'auto'. Received: -1.0." in said
    said = refused(recipe, backbones=["keras:vgg61", "keras:vgg16", "somewhere"])
    assert "keras:vgg61: " in said
    assert "somewhere: " in said


def test_of_very_many_points_that_cannot_run_some_are_named(recipe):
    sizes = ",".join(str(-size) for size in range(1, 9))
    said = refused(recipe, sweep=[f"data.batch_size={sizes}"])
    assert said.count("The recipe cannot run.") == 5
    assert said.endswith("... and 3 more.")


def test_one_run_repeats_the_command_without_the_flags_of_the_trials():
    command = (
        "python -m sft_keras.run --recipe 'my recipe.py' --set=data.batch_size=8 --smoke "
        "--sweep=task.dropout=0.1,0.2 --sweep task.fit=crop,pad -seeds 3 --folds=2 "
        "--compare_backbones=keras:vgg16 --overwrite --run_dir '/tmp/a b' --data_dir=/data"
    )
    assert one_run(command, ["backbone.arguments={}", "task.dropout=0.2"]) == (
        "python -m sft_keras.run --recipe 'my recipe.py' --set=data.batch_size=8 --smoke "
        "--data_dir=/data '--set=backbone.arguments={}' --set=task.dropout=0.2"
    )


def test_one_run_of_trials_from_python_is_in_python():
    single = one_run("sft_keras.sweeps.run.run_trials(...)", ["task.dropout=0.2"])
    assert single == "sft_keras.finetune(recipe, overrides=['task.dropout=0.2'])"


_MISTAKE = """
import sys
from sft_keras.cli.command import run_command
import sft_keras.run
import sft_keras.sweeps.plan
try:
    run_command(sft_keras.run.main)
finally:
    print([name for name in ("tensorflow", "keras", "sklearn") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--sweep=stages.head.learning_rate=-1", "must be a number greater than 0"),
        ("--seeds=1", "--seeds must be 2 or more"),
        ("--compare_backbones=keras:vgg16,keras:vgg61", "Did you mean 'vgg19'?"),
        ("--seeds=2 --strategy=mirrored", "Trials run one at a time on a single device"),
    ],
)
def test_a_mistake_is_said_without_tensorflow_and_leaves_nothing(tmp_path, flag, said):
    ran = subprocess.run(
        [sys.executable, "-c", _MISTAKE, "--recipe=quickstart", *flag.split()],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout.strip() == "[]"
    assert not list(tmp_path.iterdir())
