"""A recipe as JSON: the same recipe again, and nothing else than RecipeError for anything else."""

import dataclasses
import json
import random

import pytest

from sft_keras import Backbone, Checkpointing, Data, LoRA, Recipe, Stage, Store, load_recipe
from sft_keras.core.errors import RecipeError
from sft_keras.recipe.json_file import recipe_from_plain
from sft_keras.recipe.loader import list_recipes, to_plain
from sft_keras.tasks import Augment, Clean, ImageClassification, TextAugment, TextClassification

FULL = Recipe(
    task=TextClassification(
        clean=Clean(html=True), augment=TextAugment(delete=0.1), sequence_length=64
    ),
    data=Data(source="csv:reviews.csv", columns={"text": 0, "label": ("a", 2)}, exclude="x.txt"),
    backbone=Backbone(preset="hub:bert_tiny_en_uncased", arguments={"dropout": 0.2}),
    stages=(
        Stage(name="head", epochs=2, learning_rate="auto"),
        Stage(
            name="top",
            steps=30,
            learning_rate=1e-4,
            unfreeze="all",
            adapter=LoRA(targets=("query", "value")),
            class_weights={"good": 2.0},
            optimizer_arguments={"beta_1": 0.8},
            ema=0.99,
        ),
    ),
    store=Store(dtype="float16"),
    checkpoints=Checkpointing(every_steps=5),
)


@pytest.mark.parametrize("name", [*list_recipes(), "full"])
def test_a_recipe_is_read_again_as_it_was_written(name, tmp_path):
    recipe = FULL if name == "full" else load_recipe(name).recipe
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(to_plain(recipe)))
    loaded = load_recipe(str(file), ["seed=7"])
    assert loaded.recipe == dataclasses.replace(recipe, seed=7)
    assert loaded.name == "recipe"


def test_an_image_recipes_sizes_are_rows_again():
    recipe = Recipe(
        task=ImageClassification(augment=Augment(flip=True), hidden=(32, 16)),
        data=Data(source="digits"),
        backbone=Backbone(preset="keras:vgg16", image_size=(64, 32)),
        stages=(Stage(name="head", epochs=1, learning_rate=0.1),),
    )
    assert recipe_from_plain(json.loads(json.dumps(to_plain(recipe)))) == recipe


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("stages", 0, "lerning_rate"), 0.1, r"stages\.0\.lerning_rate.*Did you mean 'learning_r"),
        (("task", "kind"), "Evil", r"`task\.kind` must be one of ImageClassification"),
        (("task", "kind"), None, r"`task\.kind` must be one of"),
        (("task",), 3, r"`task\.kind` must be one of"),
        (("stages",), {}, r"`stages` must be"),
        (("stages", 0), "head", r"must be an object with the fields of Stage"),
        (("data",), [], r"`data` must be an object with the fields of Data"),
        (("data", "columns"), 5, r"`data\.columns` must be a mapping"),
        (("seed",), "zero", r"`seed` must be a whole number"),
        (("data", "source"), 4, r"`data\.source` for TextClassification must be"),
        (("stages", 1, "adapter", "rank"), "eight", r"rank` must be a whole number"),
        (("trackers",), None, r"`trackers` must be a list of 'mlflow' or 'wandb'"),
        (("task", "kind"), [], r"`task\.kind` must be one of"),
    ],
)
def test_what_is_no_recipe_is_said(path, value, message):
    values = json.loads(json.dumps(to_plain(FULL)))
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(RecipeError, match=message):
        recipe_from_plain(values).validate()


def test_a_missing_field_and_a_file_that_is_no_json_are_said(tmp_path):
    values = to_plain(FULL)
    del values["data"], values["stages"][1]["name"]
    with pytest.raises(RecipeError, match=r"lacks required fields of Stage.*\n.*stages\.1\.name"):
        recipe_from_plain(values)
    file = tmp_path / "broken.json"
    for text in ("", "{", "[" * 100_000, "\x00", '"' + "x" * 2**21 + '"'):
        file.write_text(text)
        with pytest.raises(RecipeError, match=r"broken\.json"):
            load_recipe(str(file))
    with pytest.raises(RecipeError, match=r"no recipe file 'none\.json'"):
        load_recipe("none.json")


# Anything at all

SCRAPS = (
    *(None, True, -1, 0, 1, 3, 1e300, float("nan"), 0.5, "", "all", "auto", "none", "x" * 300),
    *(
        [],
        {},
        [1],
        [[]],
        {"kind": "ImageClassification"},
        {"a": 1},
        "csv:x",
        "hub:x",
        "keras:vgg16",
    ),
    *("digits", "synthetic:2", "balanced", ["train"], {"name": "a"}, 10**30, "é\x00", [None]),
)


def places(value, path=()):
    """Yields the paths of all values within a value."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def changed(values, draw):
    """Returns plain values with a few of them replaced, renamed or removed."""
    values = json.loads(json.dumps(values))
    for _ in range(draw.randint(1, 4)):
        path = draw.choice(list(places(values)))
        if not path:
            continue
        inner = values
        for key in path[:-1]:
            inner = inner[key]
        what = draw.random()
        if what < 0.7:
            inner[path[-1]] = draw.choice(SCRAPS)
        elif what < 0.85:
            del inner[path[-1]]
        elif isinstance(inner, dict):
            inner[draw.choice(["kind", "epochs", "eval", "__class__", ""])] = draw.choice(SCRAPS)
    return values


@pytest.mark.parametrize("seed", range(8))
def test_whatever_a_file_says_it_is_a_recipe_or_a_recipe_error(seed):
    draw = random.Random(seed)
    recipes = [to_plain(load_recipe(name).recipe) for name in list_recipes()] + [to_plain(FULL)]
    accepted = 0
    for _ in range(250):
        values = changed(draw.choice(recipes), draw)
        try:
            recipe_from_plain(values).validate()
        except RecipeError:
            continue
        accepted += 1
    assert accepted  # else nothing but refusals was tried


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_overridden_it_is_a_recipe_or_a_recipe_error(seed):
    draw = random.Random(seed)
    lines = json.loads(json.dumps(to_plain(FULL)))
    paths = [".".join(map(str, path)) for path in places(lines) if path]
    words = [*map(str, SCRAPS), '{"a": 1}', "(3, 4)", "64x64", "1,2,3", "=", "\n", "nan", "inf"]
    accepted = 0
    for _ in range(250):
        overrides = []
        for _ in range(draw.randint(1, 3)):
            path = draw.choice(paths).replace("stages.0", "stages.head")
            path = path.replace("stages.1", "stages.top")
            if draw.random() < 0.2:
                path = path[:-1] + draw.choice("x.=")
            overrides.append(f"{path}={draw.choice(words)}")
        try:
            load_recipe(FULL, overrides)
        except RecipeError:
            continue
        accepted += 1
    assert accepted


CHOICES = {
    "data.batch_size": ("1", "7", "64"),
    "task.hidden": ("", "8", "16,4"),
    "task.pooling": ("average", "max"),
    "task.dropout": ("0", "0.9"),
    "task.augment.mixup": ("0.2",),
    "task.augment.crop": ("0.3",),
    "cache": ("off", "memory", "disk", "auto"),
    "store.views": ("none", "2"),
    "store.dtype": ("float16", "bfloat16"),
    "precision": ("mixed_bfloat16", "mixed_float16"),
    "deterministic": ("false",),
    **{
        f"stages.{stage}.{field}": values
        for stage in ("head", "top")
        for field, values in {
            "unfreeze": ("0", "1", "3", "all", "4"),
            "optimizer": ("adam", "sgd", "lion", "adafactor", "rmsprop", "muon"),
            "schedule": ("cosine", "one_cycle", "linear"),
            "warmup": ("0.5",),
            "layer_decay": ("0.5",),
            "clip_norm": ("1.0",),
            "weight_decay": ("0.01",),
            "l2": ("0.001",),
            "ema": ("0.9",),
            "accumulate": ("2", "5"),
            "learning_rate": ("auto", "1e-3", "1e10"),
            "class_weights": ("balanced",),
            "train_batch_norm": ("true",),
            "adapter.rank": ("2",),
            "monitor": ("val_accuracy",),
        }.items()
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(1, 12))]
)
def test_what_is_accepted_runs_and_what_is_not_is_a_recipe_error(tiny_recipe, seed):
    from sft_keras.core.errors import SFTError
    from sft_keras.pipeline.dry_run import dry_run

    draw, ran = random.Random(seed), 0
    for _ in range(4):
        paths = draw.sample(sorted(CHOICES), draw.randint(2, 8))
        overrides = [f"{path}={draw.choice(CHOICES[path])}" for path in paths]
        try:
            lines = list(dry_run(load_recipe(tiny_recipe, overrides).recipe))
        except SFTError as error:
            assert error.exit_status == 2, overrides
            continue
        assert lines[-1].startswith("memory"), overrides
        ran += 1
        if ran == 1:
            break
