"""The check of the data: what is planted is found, and what is not there is not."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from prepared_split import held_split

from sft_keras import Backbone, Data, Recipe, Stage, Texts, finetune
from sft_keras.check.findings import Checked, Example, Finding
from sft_keras.check.inspect import check_data, quick_check
from sft_keras.check.label_errors import likely_label_errors, out_of_fold_probabilities
from sft_keras.check.near_duplicates import duplicate_groups, near_groups, near_pairs
from sft_keras.check.report import write_page
from sft_keras.check.table import table
from sft_keras.core.errors import DataError
from sft_keras.core.reporter import SILENT
from sft_keras.data.examples import DataInfo
from sft_keras.tasks import ImageClassification, TextClassification

# Duplicates


def test_equal_digests_are_one_group():
    digests = np.array([[1, 2], [3, 4], [1, 2], [5, 6], [3, 4], [1, 2]], np.uint8)
    assert duplicate_groups(digests) == [[0, 2, 5], [1, 4]]
    assert duplicate_groups(digests[:2]) == []


def test_near_pairs_are_those_of_the_cosine_over_any_number_of_rows():
    random = np.random.default_rng(0)
    features = random.normal(size=(2500, 8)).astype(np.float32) + 5.0
    features[2400] = features[3] + 0.01
    features[1100] = features[3] - 0.01
    found = near_pairs(features, 0.999)
    centred = features - features.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    expected = {(a, b) for a, b in np.argwhere(unit @ unit.T >= 0.999).tolist() if a < b}
    assert {(pair.first, pair.second) for pair in found} == expected >= {(3, 1100), (3, 2400)}
    assert [pair.similarity for pair in found] == sorted(
        (p.similarity for p in found), reverse=True
    )
    assert near_groups([p for p in found if 3 in (p.first, p.second)], 2500) == [[3, 1100, 2400]]
    assert near_pairs(features, 0.999, confirms=lambda first, second: False) == []


# Labels


@pytest.mark.parametrize("classes", [2, 4])
def test_flipped_labels_are_found_where_features_tell_the_classes(classes):
    random = np.random.default_rng(0)
    truth = np.arange(400) % classes
    centres = random.normal(size=(classes, 16)) * 2.5
    features = centres[truth] + random.normal(size=(400, 16))
    flipped = random.choice(400, 20, replace=False)
    labels = truth.copy()
    labels[flipped] = (truth[flipped] + 1) % classes
    found = likely_label_errors(out_of_fold_probabilities(features, labels, seed=0), labels)
    named = {each.index for each in found}
    assert len(named & set(flipped)) >= 16
    assert len(named - set(flipped)) <= 10
    assert {each.index for each in found[:10]} <= set(flipped)  # the least in doubt come first
    for each in found:
        if each.index in flipped:
            assert each.suggested == truth[each.index]
    clean = likely_label_errors(out_of_fold_probabilities(features, truth, seed=0), truth)
    assert len(clean) <= 10


def test_the_rule_is_that_of_the_paper():
    # Those labelled 0 get 0.6 of class 0 on average, those labelled 1 get 0.8 of class 1.
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.15, 0.85], [0.4, 0.6], [0.0, 1.0]])
    labels = np.array([0, 0, 1, 1, 1])
    assert likely_label_errors(probabilities, labels) == []
    probabilities[1] = [0.1, 0.9]
    (found,) = likely_label_errors(probabilities, labels)
    assert (found.index, found.suggested) == (1, 1)
    assert (found.probability, found.label_probability) == (0.9, 0.1)


# Whole data sets


@pytest.fixture(scope="module")
def pictures():
    """60 pictures of coloured shapes in 3 classes, uint8 [60, 48, 48, 3]."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 6, 6, 3)).repeat(8, axis=1).repeat(8, axis=2)
    labels = np.arange(60) % 3
    images[np.arange(60), :, :, labels] = images[np.arange(60), :, :, labels] // 4 + 190
    return images.astype(np.uint8), labels


def write(folder, split, name, label, encoded):
    path = folder / split / f"colour{label}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded)
    return path.relative_to(folder).as_posix()


@pytest.fixture(scope="module")
def planted(tmp_path_factory, pictures):
    """A folder of pictures with faults; returns it and what they are called."""
    folder = tmp_path_factory.mktemp("planted")
    images, labels = pictures
    encoded = [tf.io.encode_png(image).numpy() for image in images]
    for number, (data, label) in enumerate(zip(encoded, labels)):
        split = ("train", "train", "train", "val", "test")[number // 3 % 5]
        write(folder, split, f"{number:02d}.png", label, data)
    small = tf.cast(tf.image.resize(images[1], (40, 40)), tf.uint8)
    grey = tf.image.rgb_to_grayscale(images[2])
    names = {
        "same": write(folder, "test", "again.png", 0, encoded[0]),
        "near": write(folder, "test", "near.jpg", 1, tf.io.encode_jpeg(small).numpy()),
        "other label": write(folder, "train", "other.png", 1, encoded[3]),
        "cut": write(folder, "train", "cut.png", 2, encoded[5][:300]),
        "empty": write(folder, "val", "empty.png", 2, b""),
        "grey": write(folder, "train", "grey.png", 2, tf.io.encode_png(grey).numpy()),
    }
    return folder, names


@pytest.fixture(scope="module")
def image_recipe(tiny_backbone, planted):
    return Recipe(
        task=ImageClassification(),
        data=Data(source=f"folder:{planted[0]}", batch_size=8),
        backbone=tiny_backbone,
        stages=(Stage(name="head", epochs=1, learning_rate=1e-2),),
    )


@pytest.fixture(scope="module")
def checked(image_recipe):
    return check_data(image_recipe, SILENT)


def groups(checked, kind):
    (found,) = [each for each in checked.findings if each.kind == kind] or [None]
    return [] if found is None else [[example.id for example in g] for g in found.groups]


def test_what_has_no_classes_may_be_the_same_too():
    # Questions, numbers and texts to read on: their labels are none, or no places of names.
    same = held_split(np.zeros((3, 2, 2, 3), np.uint8), [0, 1, 1])
    prepared = {"train": same, "validation": held_split([], []), "test": held_split([], [])}
    sizes = {name: len(split.examples) for name, split in prepared.items()}
    (finding,) = quick_check(prepared, DataInfo("somewhere", (), sizes, {}, {}))
    assert finding.kind == "same within a split" and finding.count == 3


def test_what_is_planted_is_found_and_nothing_else(checked, planted):
    found, names = checked[0], planted[1]
    assert groups(found, "unreadable") == [[names["cut"]], [names["empty"]]]
    assert groups(found, "same across splits") == [[names["same"], "train/colour0/00.png"]]
    assert groups(found, "nearly the same across splits") == [
        [names["near"], "train/colour1/01.png"]
    ]
    assert groups(found, "same with different labels") == [
        ["train/colour0/03.png", names["other label"]]
    ]
    assert groups(found, "grey among colour images") == [[names["grey"]]]
    assert groups(found, "nearly the same with different labels") == []
    reasons = {e.id: e.note for f in found.findings for g in f.groups for e in g}
    assert "truncated PNG" in reasons[names["cut"]]
    assert reasons[names["empty"]] == "empty, 0 bytes"
    assert found.spoils


def test_the_table_the_page_and_the_list_say_the_same(checked, planted, tmp_path):
    found, prepared = checked
    text = "\n".join(table(found))
    assert text.index("FAULT") < text.index("look ")
    assert f"{planted[1]['same']} (test, colour0); train/colour0/00.png (train, colour0)" in text
    write_page(found, prepared, "my <pictures>", "python -m ...", tmp_path / "check.html")
    page = (tmp_path / "check.html").read_text()
    assert "my &lt;pictures&gt;: data check" in page
    assert page.count("data:image/png;base64,") >= 7
    listed = [
        line
        for line in "\n".join(found.exclude_lists().values()).splitlines()
        if line and line[0] != "#"
    ]
    assert listed[:2] == [planted[1]["cut"], planted[1]["empty"]]
    assert "train/colour0/00.png" in listed and planted[1]["same"] not in listed
    assert json.loads(json.dumps(found.as_json()))["spoils"] is True


@pytest.mark.slow
def test_what_is_excluded_is_gone_and_the_rest_stays(checked, image_recipe, tmp_path):
    folder = tmp_path / "exclude"
    folder.mkdir()
    for name, content in checked[0].exclude_lists().items():
        (folder / name).write_text(content)
    data = dataclasses.replace(image_recipe.data, exclude=str(folder))
    again, _ = check_data(dataclasses.replace(image_recipe, data=data), SILENT)
    kinds = {finding.kind for finding in again.findings}
    assert not kinds & {"unreadable", "same across splits", "nearly the same across splits"}
    lines = {line for file in folder.iterdir() for line in file.read_text().splitlines()}
    listed = {line for line in lines if line and line[0] != "#"}
    assert sum(again.about["facts"]["excluded"].values()) == len(listed)
    with pytest.raises(DataError, match=r"with --exclude=FILE; python -m sft_keras\.check"):
        finetune(image_recipe, run_dir=tmp_path / "run")


def test_texts_that_are_the_same_or_nearly_are_found_though_a_run_drops_them():
    random = np.random.default_rng(0)
    words = [f"word{number}" for number in range(50)]
    texts = [" ".join(random.choice(words, 6)) for _ in range(40)]
    labels = ["good", "bad"] * 20
    test = [*texts[30:], texts[0], " ".join(texts[1].split()[:-1])]
    train = [*texts[:30], texts[4], "  ", " ".join(words)]
    recipe = Recipe(
        task=TextClassification(sequence_length=48),
        data=Data(
            source=Texts(
                train=(train, [*labels[:30], "bad", "good", "good"]),
                validation=(texts[20:30], labels[20:30]),
                test=(test, [*labels[30:], "good", "bad"]),
            )
        ),
        backbone=Backbone(preset="tiny:bert", weights=None),
        stages=(Stage(name="head", epochs=1, learning_rate=1e-2),),
    )
    found, _ = check_data(recipe, SILENT)
    across = groups(found, "same across splits")
    assert ["test[10]", "train[0]"] in across
    assert len(across) == 11  # the validation split is a part of the training split
    (finding,) = [each for each in found.findings if each.kind == "same across splits"]
    assert not finding.spoils
    assert "task.clean.duplicates" in finding.what
    assert groups(found, "same with different labels") == [["train[4]", "train[30]"]]
    assert ["test[11]", "train[1]"] in groups(found, "nearly the same across splits")
    assert any(each.kind == "empty texts" and "1 texts" in each.what for each in found.findings)
    assert any(each.kind == "over-long texts" for each in found.findings)


@pytest.mark.slow
def test_the_command_exits_with_1_and_leaves_its_folder(planted, tiny_preset, tmp_path):
    arguments = (
        *("--recipe=my_images", f"--set=data.source=folder:{planted[0]}"),
        *(f"--set=backbone.preset=hub:{tiny_preset}", "--set=backbone.image_size=32x32"),
        "--set=stages.top.unfreeze=1",
        '--set=backbone.arguments={"scale": 0.0078, "offset": -1.0}',
    )
    ran = subprocess.run(
        [sys.executable, "-m", "sft_keras.check", *arguments, "--json", "--out=found"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stderr
    printed = json.loads(ran.stdout)
    assert printed == json.loads((tmp_path / "found" / "check.json").read_text())
    names = {path.name for path in (tmp_path / "found").iterdir()}
    assert names == {"check.html", "check.json", "exclude"}


def test_there_is_a_list_to_exclude_per_finding():
    findings = [
        Finding("unreadable", "...", ((Example("train", "a.png"),), (Example("test", "b.png"),))),
        Finding("likely wrong labels", "...", ((Example("test", "c.png"),),)),
        Finding("small classes", "..."),
    ]
    lists = Checked({}, findings).exclude_lists()
    assert lists.keys() == {"unreadable.txt", "likely-wrong-labels.txt"}
    assert lists["unreadable.txt"].splitlines()[-2:] == ["a.png", "b.png"]
    assert "c.png" not in lists["unreadable.txt"]
    # Excluding hard test examples raises the score.
    assert "1 of them are validation or test examples" in lists["likely-wrong-labels.txt"]
