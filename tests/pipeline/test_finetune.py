"""The main path end to end: what a run leaves behind, and that it can be trusted."""

import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.layers import BatchNormalization

import sft_keras
from sft_keras import Arrays, Backbone, Stage, notebook
from sft_keras.backbones.layers import iter_layers
from sft_keras.core.errors import BackboneError, DataError, LossError, RecipeError, RunFolderError
from sft_keras.inference.predict import predict

NAMES = ("red", "green\n", "blü")  # of `colours_recipe`


@pytest.fixture(scope="module")
def run(image_run):
    """What `colours_recipe` leaves behind."""
    return image_run


def test_the_run_folder_holds_everything(run):
    names = {path.name for path in run.run_dir.iterdir()}
    assert names == {
        *("recipe.json", "splits.json", "history.json", "log.txt", "model.keras"),
        *("export", "report.json", "report.html", "README.md", "tensorboard"),
    }
    report = json.loads((run.run_dir / "report.json").read_text())
    assert report["test"] == run.metrics
    assert report["smoke"] is False
    splits = json.loads((run.run_dir / "splits.json").read_text())["ids"]
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [24, 12, 12]
    assert len({one for ids in splits.values() for one in ids}) == 48


def test_the_saved_model_answers_as_the_trained_one(run, colour_images):
    images = colour_images[0].astype(np.float32)
    expected = run.model(images, training=False).numpy()
    loaded = keras.models.load_model(run.run_dir / "model.keras")  # safe_mode is on
    np.testing.assert_array_equal(loaded(images, training=False).numpy(), expected)
    np.testing.assert_allclose(expected.sum(axis=1), 1.0, atol=1e-6)


def test_the_export_lies_in_a_folder_of_its_version_as_tensorflow_serving_wants_it(run):
    assert run.export_dir == run.run_dir / "export" / "1"
    assert [path.name for path in (run.run_dir / "export").iterdir()] == ["1"]
    assert (run.export_dir / "saved_model.pb").is_file()
    assert (run.export_dir / "assets.extra" / "tf_serving_warmup_requests").is_file()
    assert run.report["export"]["path"] == "export/1"


def test_the_export_answers_for_files_as_the_trained_model_does_for_pixels(run, colour_images):
    images = colour_images[0][:5]
    expected = run.model(images.astype(np.float32), training=False).numpy()
    served = tf.saved_model.load(str(run.export_dir)).signatures
    encoded = tf.constant([tf.io.encode_png(image).numpy() for image in images])
    from_files = served["serving_default"](image_bytes=encoded)
    from_pixels = served["images"](images=tf.constant(images, tf.float32))
    names = np.array(NAMES)
    for answer in (from_files, from_pixels):
        np.testing.assert_allclose(answer["probabilities"].numpy(), expected, atol=1e-5)
        labels = [label.decode() for label in answer["label"].numpy()]
        assert labels == names[expected.argmax(axis=1)].tolist()
        assert [name.decode() for name in answer["class_names"].numpy()[4]] == names.tolist()


def test_the_export_was_checked_in_a_fresh_process(run):
    assert run.report["export"]["checked"] == 12
    assert run.report["export"]["largest_difference"] <= 1e-4


def test_colours_are_learnt_once_everything_trains(run):
    assert run.metrics["accuracy"]["value"] > 0.9
    assert run.history["all"]["loss"][-1] < run.history["head"]["loss"][0]


def test_the_head_stage_leaves_the_backbone_bit_for_bit_as_it_was(run):
    head = run.report["stages"][0]["audit"]
    assert head["trained_layers"] == ["logits"]
    norms = [layer for layer in iter_layers(run.model) if type(layer) is BatchNormalization]
    assert head["batch_norm_frozen_identical"] == len(norms) > 3
    assert head["frozen_variables"] == len(run.model.weights) - 2


_ONE_RUN = """
import hashlib, sys
import numpy as np
import sft_keras
from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.tasks import Augment, ImageClassification
recipe = Recipe(
    task=ImageClassification(dropout=0.3, augment=Augment(flip=True, rotation=0.1, mixup=0.2)),
    data=Data(source="synthetic:3", batch_size=8),
    backbone=Backbone(preset="bundled:efficientnet_lite0", image_size=(32, 32)),
    stages=(Stage(name="head", steps=4, learning_rate=1e-2),
            Stage(name="top", steps=4, learning_rate=1e-3, unfreeze=2)),
)
model = sft_keras.finetune(recipe, run_dir=sys.argv[1]).model
weights = b"".join(np.asarray(weight).tobytes() for weight in model.get_weights())
print("HASH", hashlib.sha256(weights).hexdigest())
"""


@pytest.mark.slow
def test_two_processes_with_one_seed_end_with_the_same_bits(tmp_path):
    def weights_of(name):
        ran = subprocess.run(
            [sys.executable, "-c", _ONE_RUN, str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=True,
        )
        return ran.stdout.splitlines()[-1]

    first = weights_of("a")
    assert first.startswith("HASH")
    assert weights_of("b") == first  # another seed differs: see the tests of --seeds


def test_a_loss_gone_bad_stops_the_run_and_keeps_the_last_good_weights(colours_recipe, tmp_path):
    stages = (
        Stage(name="head", epochs=1, learning_rate=1e-2),
        Stage(name="wild", epochs=3, learning_rate=1e30, optimizer="sgd", unfreeze="all"),
    )
    recipe = dataclasses.replace(colours_recipe, stages=stages)
    with pytest.raises(LossError, match=r"stage 'wild' at step \d+ \(learning rate 1e\+30\)"):
        sft_keras.finetune(recipe, run_dir=tmp_path / "wild")
    kept = keras.models.load_model(tmp_path / "wild" / "last_good.keras")
    assert all(np.isfinite(weight).all() for weight in kept.get_weights())


def test_unfreezing_more_blocks_than_there_are_is_refused_before_training(colours_recipe, tmp_path):
    recipe = colours_recipe
    stages = (recipe.stages[0], dataclasses.replace(recipe.stages[1], unfreeze=99))
    message = r"`stages\.all\.unfreeze` must be .* from 0 to 3.*--set=stages\.all\.unfreeze=all"
    with pytest.raises(BackboneError, match=message):
        sft_keras.finetune(dataclasses.replace(recipe, stages=stages), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_class_weights_for_a_class_that_is_not_there_are_refused_before_training(
    colours_recipe, tmp_path
):
    wrong = dataclasses.replace(colours_recipe.stages[1], class_weights={"rd": 2.0})
    recipe = dataclasses.replace(colours_recipe, stages=(colours_recipe.stages[0], wrong))
    with pytest.raises(RecipeError, match=r"`stages.all.class_weights` .* Did you mean 'red'"):
        sft_keras.finetune(recipe, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_missing_of_backbone_and_data_is_said_at_once(
    tmp_path, colours_recipe, colour_images
):
    images, labels = colour_images
    recipe = dataclasses.replace(
        colours_recipe,
        data=dataclasses.replace(
            colours_recipe.data,
            source=Arrays(train=(images, labels + 5), class_names=("a", "b", "c")),
        ),
        backbone=Backbone(preset="keras:mobilenet", weights=str(tmp_path / "none.weights.h5")),
    )
    with pytest.raises(DataError) as caught:
        sft_keras.finetune(recipe, run_dir=tmp_path / "run")
    assert "none.weights.h5" in str(caught.value)
    assert "2. " in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_earlier_run_is_overwritten_only_when_asked_and_only_if_it_is_one(tiny_recipe, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    with pytest.raises(RunFolderError, match="pass --overwrite"):
        sft_keras.finetune(tiny_recipe, run_dir=tmp_path / "photos")
    with pytest.raises(RunFolderError, match=r"holds no recipe.json"):
        sft_keras.finetune(tiny_recipe, run_dir=tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "1.jpg").exists()


def test_a_failed_start_leaves_the_earlier_run_as_it_was(tiny_recipe, tmp_path):
    earlier = tmp_path / "run"
    earlier.mkdir()
    (earlier / "recipe.json").write_text("{}")
    (earlier / "model.keras").write_text("precious")
    with pytest.raises(BackboneError):
        sft_keras.finetune(
            tiny_recipe, overrides=["stages.top.unfreeze=99"], run_dir=earlier, overwrite=True
        )
    assert (earlier / "model.keras").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_folder_that_cannot_be_made_is_said_before_anything_else(tiny_recipe, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=r"must be writable"):
        sft_keras.finetune(tiny_recipe, run_dir=tmp_path / "file" / "run")


def test_a_bad_file_does_not_keep_the_others_from_being_predicted(run, colour_images, tmp_path):
    for index, image in enumerate(colour_images[0][:3]):
        (tmp_path / f"{index}.png").write_bytes(tf.io.encode_png(image).numpy())
    (tmp_path / "1.png").write_bytes(b"not an image")
    answers = list(predict(run.run_dir, [tmp_path, tmp_path / "missing.png"]))
    assert [answer.error is None for answer in answers] == [True, False, True, False]
    expected = run.model(colour_images[0][:3].astype(np.float32), training=False).numpy()
    for answer, row in zip((answers[0], answers[2]), (expected[0], expected[2])):
        np.testing.assert_allclose(list(answer.probabilities.values()), row, atol=1e-5)
        assert answer.label == NAMES[row.argmax()]


def test_a_notebook_shows_the_answers_with_their_pictures_and_the_mistakes(
    run, colour_images, tmp_path
):
    (tmp_path / "0.png").write_bytes(b"not an image")
    (tmp_path / "1.png").write_bytes(tf.io.encode_png(colour_images[0][2]).numpy())
    expected = run.model(colour_images[0][2:3].astype(np.float32), training=False).numpy()[0]
    page = notebook.predictions(run, [tmp_path]).html
    assert f"<strong><bdi>{NAMES[expected.argmax()].strip()}" in page
    assert page.count('src="data:image/png') == 1
    mistakes = run.report["mistakes"]
    assert {row["picture"] for row in mistakes} <= set(range(len(run.pictures)))
    assert all(tf.io.decode_png(picture).shape == (32, 32, 3) for picture in run.pictures)
    assert notebook.mistakes(run).html.count("✗</span> <bdi>") == min(12, len(mistakes))


@pytest.mark.slow
def test_predict_exits_with_1_if_a_file_had_no_answer(run, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "sft_keras.predict",
            f"--run={run.run_dir}",
            "--json",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert json.loads(ran.stdout)["error"] is not None
    assert "Traceback" not in ran.stderr


def test_predict_without_a_finished_run_says_so(tmp_path):
    with pytest.raises(RunFolderError, match=r"has no export/1/saved_model.pb"):
        next(predict(tmp_path, ["x.png"]))


def test_a_smoke_run_says_so_and_replaces_data_and_weights(tiny_recipe, tmp_path):
    recipe = dataclasses.replace(
        tiny_recipe, data=dataclasses.replace(tiny_recipe.data, source="tfds:nothing_like_it")
    )
    smoke = recipe.task.smoke_recipe(recipe)
    assert smoke.data.source == "synthetic:3"
    assert smoke.backbone.weights is None
    smoke.validate()


def test_what_the_model_card_shows_can_be_run(run, colour_images, tmp_path, monkeypatch, capsys):
    card = (run.run_dir / "README.md").read_text()
    assert f"**{run.metrics['accuracy']['value']:.1%}**".replace("%", " %") in card.replace(
        "\N{NO-BREAK SPACE}", " "
    )
    (tmp_path / "export").symlink_to(run.run_dir / "export")
    tf.io.write_file(str(tmp_path / "photo.jpg"), tf.io.encode_png(colour_images[0][0]))
    monkeypatch.chdir(tmp_path)
    exec(card.split("```python\n")[1].split("```")[0], {})
    assert "'label': b'" in capsys.readouterr().out


def test_tensorboard_shows_the_figures_of_each_epoch_over_all_stages(run):
    found = {}
    for split, prefix in (("train", ""), ("validation", "val_")):
        for file in sorted((run.run_dir / "tensorboard" / split).iterdir()):
            for record in tf.data.TFRecordDataset(str(file)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                for value in event.summary.value:
                    number = tf.make_ndarray(value.tensor).item()
                    found.setdefault(prefix + value.tag, []).append((event.step, number))
    expected, step = {}, 0
    for history in run.history.values():
        for epoch in range(len(history["loss"])):
            step += 3  # batches of 8 out of 24 examples
            for name, values in history.items():
                expected.setdefault(name, []).append((step, values[epoch]))
    assert found.keys() == expected.keys()
    for name, points in expected.items():
        np.testing.assert_allclose(found[name], points, rtol=1e-6, err_msg=name)


@pytest.mark.slow
def test_the_temperature_of_validation_is_in_all_that_the_run_leaves(
    tmp_path, colours_recipe, colour_images
):
    images, labels = colour_images
    wrong = np.where(
        np.arange(48) % 5 == 0, (labels + 1) % 3, labels
    )  # nobody can be sure of these
    source = Arrays(train=(images, wrong), class_names=("red", "green", "blue"))
    recipe = dataclasses.replace(
        colours_recipe, data=dataclasses.replace(colours_recipe.data, source=source)
    )
    result = sft_keras.finetune(recipe, run_dir=tmp_path / "run")
    tested = result.metrics["calibration"]
    assert tested["temperature"] == result.report["stages"][-1]["temperature"] != 1.0
    assert tested["loss"] == pytest.approx(result.metrics["loss"], abs=1e-6)
    assert tested["before"]["loss"] != pytest.approx(tested["loss"], rel=1e-3)
    # The export was asked and compared with this; and so is the file.
    loaded = keras.saving.load_model(result.run_dir / "model.keras")
    np.testing.assert_array_equal(loaded(images[:4]), result.model(images[:4]))
    assert any(layer.name == "temperature" for layer in loaded.layers)


def test_the_command_to_predict_is_quoted_for_the_shell():
    from types import SimpleNamespace

    from sft_keras.pipeline.finish import RunFinisher

    lines: list[str] = []
    finisher = object.__new__(RunFinisher)
    finisher._run = SimpleNamespace(path="my runs/a;b", line=lines.append, file=lambda name: name)
    task = SimpleNamespace(
        evaluator=SimpleNamespace(summary=lambda metrics: "good"),
        config=SimpleNamespace(predict_argument='"TEXT"'),
    )
    finisher._experiment = SimpleNamespace(task=task)
    finisher._print_result({}, [])
    assert lines[-1] == """predict  python -m sft_keras.predict '--run=my runs/a;b' "TEXT"..."""
