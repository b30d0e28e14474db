"""A recipe says all its faults at once, and says them without TensorFlow."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sft_keras import Arrays, Backbone, Data, Recipe, Stage
from sft_keras.core.errors import RecipeError
from sft_keras.recipe.loader import list_recipes, load_recipe, to_lines, to_plain
from sft_keras.recipe.optimizers import OPTIMIZERS
from sft_keras.recipe.overrides import apply_overrides
from sft_keras.tasks import Augment, ImageClassification


def test_a_misspelt_field_is_named_with_the_nearest_one():
    with pytest.raises(RecipeError, match=r"no field 'lerning_rate'. Did you mean 'learning_rate'"):
        Stage(name="top", epochs=1, lerning_rate=1e-3)


def test_every_fault_of_every_section_is_listed_in_one_error(tiny_recipe):
    broken = dataclasses.replace(
        tiny_recipe,
        task=ImageClassification(dropout=1.5, augment=Augment(mixup=0.2, cutmix=1.0, crop=1.0)),
        data=Data(source="tfd:tf_flowers", batch_size=0, validation=0.6, test=0.6),
        backbone=Backbone(preset="keras:vgg17", image_size=(0, 32)),
        stages=(
            Stage(name="a", learning_rate=-1.0, epochs=1, steps=1, optimizer="adm"),
            Stage(name="a", learning_rate=1.0, epochs=1, warmup=1.0, optimizer="adamw"),
        ),
    )
    with pytest.raises(RecipeError) as caught:
        broken.validate()
    message = str(caught.value)
    for part in (
        *("`task.dropout`", "`mixup` or `cutmix`", "`task.augment.crop`"),
        *("`data.source`", "Did you mean 'tfds'", "`data.batch_size`", "must leave examples"),
        *("Did you mean 'vgg19'", "`backbone.image_size`"),
        *("different names", "`stages.a.learning_rate`", "either `epochs` or `steps`"),
        *("Did you mean 'adam'", "`stages.a.warmup`", "`stages.a.weight_decay`"),
    ):
        assert part in message
    assert "14." in message


def test_a_value_of_the_wrong_type_is_a_fault_and_not_a_crash(tiny_recipe):
    stage = dataclasses.replace(tiny_recipe.stages[0], learning_rate="fast", unfreeze=True)
    with pytest.raises(RecipeError) as caught:
        dataclasses.replace(tiny_recipe, stages=(stage,)).validate()
    assert "`stages.head.learning_rate` must be a number or 'auto'. Received: 'fast'" in str(
        caught.value
    )
    assert "`stages.head.unfreeze` must be a whole number or 'all'" in str(caught.value)


def test_optimizer_arguments_are_checked_by_name(tiny_recipe):
    stage = dataclasses.replace(
        tiny_recipe.stages[0], optimizer="sgd", optimizer_arguments={"momentu": 0.9}
    )
    with pytest.raises(
        RecipeError, match=r"must be among momentum, nesterov. .*Did you mean 'momentum'"
    ):
        dataclasses.replace(tiny_recipe, stages=(stage,)).validate()


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("stages.top.learning_rate=1e-4", lambda r: r.stages[1].learning_rate == 1e-4),
        ("stages.top.unfreeze=all", lambda r: r.stages[1].unfreeze == "all"),
        ("stages.top.unfreeze=3", lambda r: r.stages[1].unfreeze == 3),
        ("stages.head.patience=none", lambda r: r.stages[0].patience is None),
        ("stages.head.class_weights=balanced", lambda r: r.stages[0].class_weights == "balanced"),
        ('stages.head.class_weights={"a": 2}', lambda r: r.stages[0].class_weights == {"a": 2}),
        ("backbone.image_size=96,128", lambda r: r.backbone.image_size == (96, 128)),
        ("backbone.image_size=96x128", lambda r: r.backbone.image_size == (96, 128)),
        ("backbone.arguments.alpha=0.5", lambda r: r.backbone.arguments["alpha"] == 0.5),
        ("backbone.weights=None", lambda r: r.backbone.weights is None),
        ("task.augment.flip=both", lambda r: r.task.augment.flip == "both"),
        ("task.augment.flip=true", lambda r: r.task.augment.flip is True),
        ("task.hidden=64,32", lambda r: r.task.hidden == (64, 32)),
        ("data.source=csv:a=b.csv", lambda r: r.data.source == "csv:a=b.csv"),
        ("deterministic=false", lambda r: r.deterministic is False),
    ],
)
def test_an_override_is_typed_from_its_field(tiny_recipe, override, read):
    changed = apply_overrides(tiny_recipe, [override])
    assert read(changed)
    assert changed != tiny_recipe or "None" in override or "none" in override


def test_every_wrong_override_is_listed_in_one_error(tiny_recipe):
    wrong = [
        "stages.top.lerning_rate=1e-4",
        "stages.tpo.epochs=1",
        "data.batch_size=many",
        "seed",
        "stages.top=1",
        "task.augment.flip=maybe",
        "backbone.preset.x=1",
    ]
    with pytest.raises(RecipeError) as caught:
        apply_overrides(tiny_recipe, wrong)
    message = str(caught.value)
    for part in (
        "Stage has no field 'lerning_rate'. Did you mean 'learning_rate'?",
        "there is no stage 'tpo'; there are: head, top. Did you mean 'top'?",
        "`data.batch_size`: must be a whole number. Received: 'many'.",
        "must read PATH=VALUE",
        "names a whole stage",
        "must be true or false or 'both'",
        "is a plain value",
    ):
        assert part in message


def test_columns_are_names_positions_or_several(tiny_recipe):
    overrides = ["data.columns.text=0", 'data.columns.label=["toxic", 3]', "data.delimiter=\t"]
    data = apply_overrides(tiny_recipe, overrides).data
    assert data.columns == {"text": 0, "label": ("toxic", 3)}
    assert data.delimiter == "\t"
    whole = 'data.columns={"label": ["a", "b"], "text": "x"}'
    assert apply_overrides(tiny_recipe, [whole]).data.columns == {"label": ("a", "b"), "text": "x"}
    for text, received in (("1.5", "1.5"), ('{"a": 1}', "{'a': 1}")):
        with pytest.raises(RecipeError, match=f"columns` must be a mapping.*{received}"):
            load_recipe(tiny_recipe, [f"data.columns.text={text}"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"delimiter": ";;"}, r"`data.delimiter` must be one character.*Received: ';;'"),
        ({"delimiter": '"'}, r"`data.delimiter` must be one character"),
        ({"encoding": "latin-99"}, r"`data.encoding` must be an encoding, such as 'cp1252'"),
        ({"encoding": "rot13"}, r"`data.encoding` must be an encoding"),
        ({"encoding": "a\0"}, r"`data.encoding` must be an encoding"),
        ({"source": "parquet:x", "delimiter": ";"}, r"delimiter` is for the sources csv, tsv.*Rem"),
        (
            {"source": "tfds:x", "encoding": "cp1252"},
            r"encoding` is for the sources csv, tsv, json",
        ),
    ],
)
def test_formats_that_do_not_exist_or_are_not_used_are_refused(fields, message):
    (fault,) = Data(**{"source": "csv:x", **fields}).faults()
    assert re.search(message, fault)


@pytest.mark.parametrize("delimiter", [";", "|", " ", "\t", "tab", "\\t", None])
def test_a_delimiter_is_one_character_or_a_tab_in_words(delimiter):
    assert Data(source="csv:x", delimiter=delimiter, encoding="utf-16").faults() == []


def test_an_override_can_mend_a_fault_of_the_file(tiny_recipe):
    broken = dataclasses.replace(tiny_recipe, data=Data(source="digits", batch_size=0))
    assert load_recipe(broken, ["data.batch_size=4"]).recipe.data.batch_size == 4


def test_the_printed_recipe_can_be_given_back_as_overrides(tiny_recipe):
    other = apply_overrides(
        tiny_recipe, ["stages.top.unfreeze=2", "data.batch_size=2", "backbone.image_size=64,64"]
    )
    changed = [line for line in to_lines(other) if line not in to_lines(tiny_recipe)]
    assert changed == [
        "data.batch_size: 2",
        "backbone.image_size: (64, 64)",
        "stages.top.unfreeze: 2",
    ]
    overrides = [line.replace(": ", "=", 1) for line in changed]
    assert apply_overrides(tiny_recipe, overrides) == other


def test_a_recipe_on_arrays_is_printed_without_their_values(tiny_recipe):
    arrays = Arrays(train=(np.zeros((99, 8, 8), np.uint8), np.arange(99) % 3))
    recipe = dataclasses.replace(tiny_recipe, data=Data(source=arrays))
    (line,) = [line for line in to_lines(recipe) if line.startswith("data.source")]
    assert "99" in line
    assert len(line) < 200
    assert to_plain(recipe)["data"]["source"] == repr(arrays)


def test_all_recipes_that_come_along_are_valid_and_described():
    recipes = list_recipes()
    expected = {"quickstart", "vgg_flowers", "resnet50_flowers", "resnet50_cats_dogs"}
    assert expected | {"mobilenet_flowers", "my_images", "bert_squad"} <= recipes.keys()
    for name, description in recipes.items():
        assert load_recipe(name).description == description
        assert len(description) > 20


def test_an_unknown_recipe_is_answered_with_the_nearest_one():
    with pytest.raises(RecipeError, match="Did you mean 'vgg_flowers'"):
        load_recipe("vgg_flower")


def test_a_recipe_file_that_fails_says_which_and_why(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from sft_keras import Recipe\nrecipe = Recipe(sed=1)\n")
    with pytest.raises(RecipeError, match=r"(?s)mine.py.*no field 'sed'. Did you mean 'seed'"):
        load_recipe(file)
    file.write_text("1 / 0\n")
    with pytest.raises(RecipeError, match=r"could not be executed: ZeroDivisionError"):
        load_recipe(file)
    file.write_text("recipe = 3\n")
    with pytest.raises(RecipeError, match=r"must set `recipe`"):
        load_recipe(file)


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (["--list"], 0),
        (["--help"], 1),  # absl's own status for help
        (["--recipe=quickstart", "--show"], 0),
        (["--recipe=quickstart", "--set=stages.top.epochs=-1"], 2),
        (["--recipe=nothing"], 2),
        (["--recipe=my_images"], 2),
        (["--recip=quickstart"], 2),
        (["--recipe=quickstart", f"--run_dir={Path(__file__).parent}"], 2),
        (["--recipe=quickstart", f"--run_dir={Path(__file__).parent}", "--overwrite"], 2),
        (["quickstart"], 2),
        ([], 2),
    ],
)
def test_help_lists_and_mistakes_are_answered_without_tensorflow(flags, status):
    probe = (
        "import sys, runpy; sys.argv = ['run', *sys.argv[1:]]\n"
        "try: runpy.run_module('sft_keras.run', run_name='__main__')\n"
        "except SystemExit as end: code = end.code or 0\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy), 'CODE', code)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe, *flags], capture_output=True, text=True, check=False
    )
    assert f"HEAVY [] CODE {status}" in ran.stdout, ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_optimizer_table_is_what_keras_has():
    import inspect

    import keras

    common = {"self", "kwargs", "name", "learning_rate", "weight_decay", "clipnorm", "clipvalue"}
    common |= {"global_clipnorm", "use_ema", "ema_momentum", "ema_overwrite_frequency"}
    common |= {"gradient_accumulation_steps", "loss_scale_factor"}
    classes = {
        name.lower(): value
        for name, value in vars(keras.optimizers).items()
        if isinstance(value, type) and issubclass(value, keras.optimizers.Optimizer)
    }
    wrappers = {"optimizer", "lossscaleoptimizer", "multioptimizer"}
    assert set(classes) - wrappers - {"muon", "schedulefreeadamw"} == set(OPTIMIZERS)
    for name, arguments in OPTIMIZERS.items():
        taken = set(inspect.signature(classes[name].__init__).parameters) - common
        assert set(arguments) == taken, name


def test_a_recipe_cannot_be_changed(tiny_recipe):
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_recipe.seed = 1
    assert isinstance(tiny_recipe, Recipe)


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("epochs=3", "--set=stages.head.epochs=... or --set=stages.top.epochs=..."),
        ("lr=0.1", "--set=stages.head.learning_rate=..."),
        ("image_size=224", "--set=backbone.image_size=..."),
        ("bs=4", "--set=data.batch_size=..."),
        ("epoch=3", "--set=stages.head.epochs=..."),
    ],
)
def test_an_unknown_path_gets_a_hint_to_the_full_one(override, hint):
    with pytest.raises(RecipeError) as caught:
        load_recipe("quickstart", [override])
    assert hint in str(caught.value)
