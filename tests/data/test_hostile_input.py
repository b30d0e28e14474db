"""Files of a stranger's: they are refused by name or read, and run nothing."""

from __future__ import annotations

import ast
import base64
import io
import json
import marshal
import shutil
import struct
import sys
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from backbone_checks import SIZE as BACKBONE_SIZE
from backbone_checks import error_of
from fuzzing import SQUARE, encoded_images
from PIL import Image

from sft_keras import Backbone, Data
from sft_keras.backbones.build import build_backbone
from sft_keras.backbones.text import build_text_backbone
from sft_keras.backbones.weights_file import load_weights_file
from sft_keras.core.errors import BackboneError, DataError, RunFolderError, UnreadableError
from sft_keras.data.examples import SPLITS
from sft_keras.inference.predict import predict
from sft_keras.tasks import Clean
from sft_keras.text.cleaning import clean_text
from sft_keras.text.labels import NumericLabelKind, SingleLabelKind
from sft_keras.vision.decode import decode_image
from sft_keras.vision.faults import undecodable_reason
from sft_keras.vision.image_size import declared_pixels, require_moderate_size
from sft_keras.vision.preprocess import prepare_images
from sft_keras.vision.sources.open import open_data

ROOT = Path(__file__).parents[2]
ENORMOUS = 60_000  # pixels, a side


def png(width: int, height: int, rows: int | None = None) -> bytes:
    """Returns a grey PNG that says it is of a size and holds some rows of it, or none."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = zlib.compress(bytes((1 + width) * (rows or 0)))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def webp(kind: bytes, content: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(content)) + content + bytes(40)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def encoded(kind: str, size: tuple[int, int], **options) -> bytes:
    file = io.BytesIO()
    Image.new("P" if kind == "GIF" else "RGB", size).save(file, kind, **options)
    return file.getvalue()


def gif(screen: tuple[int, int], frame: tuple[int, int], **options) -> bytes:
    """Returns a GIF whose screen is said to be of one size, and whose frames are of another."""
    content = bytearray(encoded("GIF", frame, **options))
    content[6:10] = struct.pack("<HH", *screen)
    return bytes(content)


def bmp(width: int, height: int) -> bytes:
    content = bytearray(encoded("BMP", (4, 4)))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


def jpeg(width: int, height: int) -> bytes:
    content = encoded("JPEG", (4, 4))
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


LOSSLESS = (16384 - 1) | (16384 - 1) << 14
HUGE = {
    "PNG": png(ENORMOUS, ENORMOUS),
    "PNG of all bits": png(2**32 - 1, 2**32 - 1),
    "GIF": gif((ENORMOUS, ENORMOUS), (2, 2)),
    "GIF frame": gif((2, 2), (9000, 8000)),
    "GIF frame behind extensions": gif((2, 2), (9000, 8000), comment=b"x" * 700, duration=5),
    "BMP": bmp(ENORMOUS, ENORMOUS),
    "BMP from the top": bmp(ENORMOUS, -ENORMOUS),
    "BMP of the least height": bmp(2**31 - 1, -(2**31)),
    "WebP lossy": webp(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383)),
    "WebP lossless": webp(b"VP8L", b"\x2f" + struct.pack("<I", LOSSLESS)),
    "WebP extended": webp(b"VP8X", bytes(4) + b"\xff\xff\xff" * 2),
    "JPEG": jpeg(ENORMOUS, ENORMOUS),
    "JPEG progressive": jpeg(ENORMOUS, ENORMOUS).replace(b"\xff\xc0", b"\xff\xc2"),
}
LYING = {
    "less.png": png(10, 10, rows=4),
    "more.png": png(10, 10, rows=4000),
    "much.png": png(2000, 2000, rows=1),
    "cut.png": png(10, 10, rows=10)[:-20],
    "cut.jpg": encoded("JPEG", (9, 9))[:-9],
    "empty.jpg": b"",
    "text.jpg": b"dear reader",
    "short.webp": b"RIFF",
    "raw.webp": b"RIFF\0\1\0\0WEBP" + encoded("WEBP", (99, 99), lossless=True)[20:],
    "start.gif": b"GIF89a",
    "screen.gif": encoded("GIF", (9, 9))[:13],
    "colours.gif": encoded("GIF", (9, 9))[:13] + b"\x21\xfe",
    "start.bmp": b"BM",
}


def splits_with(folder: Path, files: dict[str, bytes]):
    for each in "ab":
        (folder / each).mkdir()
        for number in range(6):
            (folder / each / f"{number}.png").write_bytes(encoded("PNG", (5, 5)))
    for name, content in files.items():
        (folder / "a" / name).write_bytes(content)
    return open_data(Data(source=f"folder:{folder}", validation=0.2, test=0.2), seed=0).by_name()


def prepared(splits):
    return prepare_images(splits, (4, 4), "stretch", 0.2, lambda done, total: None)


def unread(splits) -> dict[str, str]:
    with pytest.raises(UnreadableError) as caught:
        prepared(splits)
    return {id_: why for each in caught.value.reasons.values() for id_, why in each.items()}


@pytest.mark.parametrize("name", HUGE)
def test_an_image_that_says_it_is_enormous_is_not_decoded(name, monkeypatch):
    decoded = []
    monkeypatch.setattr(tf.io, "decode_image", lambda *_, **__: decoded.append(name))
    monkeypatch.setattr(tf.io, "decode_bmp", lambda *_, **__: decoded.append(name))
    assert "of more than 67,108,864 pixels" in undecodable_reason(HUGE[name])
    assert not decoded


@pytest.mark.slow
def test_enormous_images_are_named_among_others(tmp_path):
    files = {f"{name}.{name.split()[0].lower()}": content for name, content in HUGE.items()}
    found = unread(splits_with(tmp_path, files))
    assert set(found) == {f"a/{name}" for name in files}
    assert all("of more than 67,108,864 pixels" in why for why in found.values())


def test_the_size_is_what_pillow_says():
    kinds = set()
    for content in encoded_images():
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
        kinds.add(content[:2] + (content[12:16] if content.startswith(b"RIFF") else b""))
        assert int(declared_pixels(tf.constant(content))) == width * height == SQUARE**2
    assert len(kinds) == 7  # three of them of WebP
    for size in ((1, 7), (300, 2), (65, 129)):
        for kind, options in (
            ("PNG", {}),
            ("JPEG", {}),
            ("GIF", {}),
            ("BMP", {}),
            ("WEBP", {}),
            ("WEBP", {"lossless": True}),
            ("WEBP", {"icc_profile": b"a profile"}),
        ):
            found = declared_pixels(tf.constant(encoded(kind, size, **options)))
            assert int(found) == size[0] * size[1]


def test_rows_from_the_top_make_a_bmp_no_larger():
    assert int(declared_pixels(tf.constant(bmp(4, -4)))) == 16
    assert undecodable_reason(bmp(4, -4)) is None


@pytest.mark.parametrize("content", encoded_images())
def test_the_largest_size_is_taken_and_one_more_is_not(content):
    require_moderate_size(tf.constant(content), SQUARE**2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)pixels are too many.*143.*144"):
        require_moderate_size(tf.constant(content), SQUARE**2 - 1)


@pytest.mark.slow
def test_a_header_that_lies_is_named_and_all_others_are_read(tmp_path):
    splits = splits_with(tmp_path, LYING)
    found = unread(splits)
    assert set(found) <= {f"a/{name}" for name in LYING}
    assert "must start with a VP8" in found["a/raw.webp"]
    taken = {"a/more.png"}  # what is behind the rows that it says it has is left
    assert set(found) >= {f"a/{name}" for name in LYING} - taken
    for id_ in found:
        (tmp_path / id_).write_bytes(encoded("PNG", (5, 5)))
    assert sum(len(each.digests) for each in prepared(splits).values()) == 12 + len(LYING)


def test_later_frames_of_a_gif_are_neither_decoded_nor_missed():
    first, later = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "blue")
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=[later], duration=50, comment=b"c" * 600)
    whole = file.getvalue()
    pixels = decode_image(tf.constant(whole)).numpy()
    assert pixels.shape == (10, 20, 3) and (pixels == [255, 0, 0]).all()
    small, large = encoded("GIF", (20, 10)), encoded("GIF", (40, 30))
    frame = large[large.index(b"\x2c" + bytes(4) + struct.pack("<HH", 40, 30)) :]
    assert decode_image(tf.constant(small[:-1] + frame)).shape == (10, 20, 3)


def write_table(folder: Path, paths: list[str]) -> Data:
    rows = [f"{path},{'ab'[number % 2]}" for number, path in enumerate(paths)]
    (folder / "table.csv").write_text("\n".join(["path,label", *rows]))
    return Data(source=f"csv:{folder / 'table.csv'}", validation=0.2, test=0.2)


@pytest.fixture
def inside(tmp_path) -> Path:
    """A folder of class folders, with an image beside it."""
    folder = tmp_path / "inside"
    folder.mkdir()
    splits_with(folder, {})
    (tmp_path / "secret.png").write_bytes(encoded("PNG", (5, 5)))
    return folder


def images_in(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*.png"))


def allowed(data: Data) -> Data:
    return Data(source=data.source, validation=0.2, test=0.2, outside=True)


@pytest.mark.parametrize("how", ["..", "absolute", "link", "linked folder", "inner .."])
def test_a_path_of_a_table_that_leads_out_is_refused(inside, how):
    (inside / "link.png").symlink_to("../secret.png")
    (inside / "linked").symlink_to("..")
    path = {
        "..": "../secret.png",
        "absolute": str(inside.parent / "secret.png"),
        "link": "link.png",
        "linked folder": "linked/secret.png",
        "inner ..": "a/../../secret.png",
    }[how]
    data = write_table(inside, [f"{each}/{n}.png" for n in range(6) for each in "ab"] + [path])
    with pytest.raises(DataError, match=r"1 paths lead out of.*data\.outside=true"):
        open_data(data, seed=0)
    splits = open_data(allowed(data), seed=0)
    assert sum(splits.info.sizes.values()) == 13


def test_links_and_absolute_paths_that_stay_inside_are_fine(inside):
    (inside / "link.png").symlink_to("a/0.png")
    paths = ["a/../a/1.png", str(inside / "b/1.png"), "link.png", "b/0.png"] * 1
    rest = [f"{each}/{n}.png" for n in range(2, 6) for each in "ab"]
    assert sum(open_data(write_table(inside, paths + rest), seed=0).info.sizes.values()) == 12


@pytest.mark.parametrize("path", ["x\0.png", "x" * 300, "x/" * 3000])
def test_a_path_that_no_file_can_have_is_not_there(inside, path):
    with pytest.raises(DataError, match="1 files do not exist"):
        open_data(write_table(inside, ["a/0.png", "b/0.png", path]), seed=0)


@pytest.mark.parametrize("how", ["file", "class", "split"])
def test_a_link_out_of_class_folders_is_refused(inside, how):
    if how == "file":
        (inside / "a" / "link.png").symlink_to("../../secret.png")
    else:
        # The folder itself holds splits then, and what it links to lies beside it.
        shutil.copytree(inside, inside.parent / "other")
        shutil.copytree(inside, inside / "train")
        shutil.rmtree(inside / "a")
        shutil.rmtree(inside / "b")
        if how == "class":
            (inside / "train" / "c").symlink_to("../../other/a")
        else:
            (inside / "test").symlink_to("../other")
    data = Data(source=f"folder:{inside}", validation=0.2, test=0.2)
    with pytest.raises(DataError, match=r"1 paths lead out of.*data\.outside=true"):
        open_data(data, seed=0)
    assert sum(open_data(allowed(data), seed=0).info.sizes.values()) > 12


def test_links_within_class_folders_are_fine(inside):
    (inside / "a" / "link.png").symlink_to("1.png")
    (inside / "c").symlink_to("b")
    splits = open_data(Data(source=f"folder:{inside}", validation=0.2, test=0.2), seed=0)
    assert splits.info.class_names == ("a", "b", "c")


def excluding(inside: Path, ids: list[str], seed: int = 0):
    listed = inside.parent / "exclude.txt"
    listed.write_text("# left out\n" + "\n".join(ids) + "\n")
    data = Data(source=f"folder:{inside}", validation=0.3, test=0.3, exclude=str(listed))
    return open_data(data, seed=seed)


def test_what_cannot_be_excluded_is_refused(inside):
    with pytest.raises(DataError, match=r"Unknown ids: a/9\.png.*Did you mean"):
        excluding(inside, ["a/1.png", "a/9.png"])
    with pytest.raises(DataError, match=r"`data\.exclude` cannot be read"):
        open_data(Data(source=f"folder:{inside}", exclude=str(inside / "nowhere")), seed=0)
    (inside.parent / "marked").write_text("a/1.png\n", encoding="utf-8-sig")
    open_data(Data(source=f"folder:{inside}", exclude=str(inside.parent / "marked")), seed=0)
    (inside.parent / "latin").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"`data\.exclude` cannot be read"):
        open_data(Data(source=f"folder:{inside}", exclude=str(inside.parent / "latin")), seed=0)
    for split in SPLITS:
        ids = getattr(excluding(inside, []), split).ids
        with pytest.raises(DataError, match=rf"leaves no examples in the '{split}' split"):
            excluding(inside, list(ids))


@pytest.mark.parametrize("seed", range(8))
def test_what_is_not_excluded_stays_in_its_split(inside, seed):
    draw = np.random.default_rng(seed)
    whole = excluding(inside, [], seed)
    chosen = set(draw.choice(images_in(inside), 2, replace=False).tolist())
    less = excluding(inside, sorted(chosen), seed)
    for split in SPLITS:
        before, after = getattr(whole, split), getattr(less, split)
        assert after.ids == tuple(each for each in before.ids if each not in chosen)
        label_of = dict(zip(before.ids, before.labels))
        assert [label_of[each] for each in after.ids] == after.labels.tolist()


def test_hostile_texts_are_cleaned_at_once():
    assert clean_text("a <!-- b <i> --> c <i>d</i> <!-- e", Clean()) == "a c d <!-- e"
    assert clean_text("x" + "<!--" * 250_000, Clean()).startswith(
        "x<!--"
    )  # not in the square of it
    assert clean_text("&#" + "9" * 5000 + "; &#65;", Clean()) == "\N{REPLACEMENT CHARACTER} A"


def test_hostile_labels_are_named_and_ordered():
    names, _ = SingleLabelKind().encode({"train": ["10", "9", "-1", "1" * 5000, "01", "1"]})
    assert names == ("-1", "01", "1", "9", "10", "1" * 5000)
    assert SingleLabelKind().encode({"train": ["--1", "2"]})[0] == ("--1", "2")
    with pytest.raises(ValueError, match="finite number"):
        NumericLabelKind().parse(10**400)


@pytest.fixture(scope="module")
def small_model() -> keras.Model:
    inputs = keras.Input((8,))
    return keras.Model(inputs, keras.layers.Dense(4, name="dense")(inputs))


def changed(content: bytes) -> dict[str, bytes]:
    middle = len(content) // 2
    draw = np.random.default_rng(0)
    noise = draw.integers(0, 256, middle).astype(np.uint8).tobytes()
    return {
        "cut": content[:middle],
        "short": content[:7],
        "empty": b"",
        "text": b"dear reader",
        "without its start": content[9:],
        "noise in its first half": noise + content[middle:],
        "noise in the middle": content[: middle // 2] + noise + content[middle // 2 + middle :],
    }


@pytest.mark.parametrize("ending", ["weights.h5", "h5", "keras", "safetensors", "txt"])
def test_a_damaged_weights_file_is_refused(small_model, tmp_path, ending):
    whole = tmp_path / f"whole.{ending}"
    if ending in ("h5", "keras"):
        small_model.save(whole)
    else:
        small_model.save_weights(tmp_path / "whole.weights.h5")
        (tmp_path / "whole.weights.h5").rename(whole)
    backbone, weights = Backbone(preset="keras:vgg16"), small_model.get_weights()
    for name, content in changed(whole.read_bytes()).items():
        file = tmp_path / f"{name}.{ending}"
        file.write_bytes(content)
        try:
            load_weights_file(small_model, file, backbone)
        except BackboneError as error:
            assert "do not fit keras:vgg16" in str(error)
        else:  # a zip file is read from its end
            assert (name, ending) == ("without its start", "keras")
            assert all(
                (one == other).all() for one, other in zip(small_model.get_weights(), weights)
            )
    if ending in ("weights.h5", "keras"):
        load_weights_file(small_model, whole, backbone)


def making(marker: Path):
    """Returns a function of x that gives x and makes a file."""
    return eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]")


def test_a_keras_file_with_a_lambda_runs_nothing(tmp_path):
    marker = tmp_path / "marker"
    inputs = keras.Input((*BACKBONE_SIZE, 3))
    model = keras.Model(
        inputs, keras.layers.Lambda(making(marker), output_shape=(32, 32, 3))(inputs)
    )
    model.save(tmp_path / "evil.keras")
    marker.unlink(missing_ok=True)  # the model itself has been called to be made
    assert "do not fit" in error_of(preset="keras:mobilenet", weights=str(tmp_path / "evil.keras"))
    assert not marker.exists()
    keras.models.load_model(tmp_path / "evil.keras", safe_mode=False)(
        np.zeros((1, *BACKBONE_SIZE, 3))
    )
    assert marker.exists()  # else the test would prove nothing


def objects(marker: Path) -> dict[str, dict]:
    """Returns what a stranger may have written where an object is described."""
    code = base64.b64encode(marshal.dumps(making(marker).__code__)).decode()
    inner = {"class_name": "__lambda__", "config": {"value": [code, None, None]}}
    function = {
        "class_name": "__lambda__",
        "config": {"code": code, "defaults": None, "closure": None},
    }
    command = f"touch {marker}"
    return {
        "Lambda": {
            "module": "keras.layers",
            "class_name": "Lambda",
            "registered_name": None,
            "config": {"name": "x", "function": function, "arguments": {}},
        },
        "lambda": inner,
        "os.system": {
            "module": "os",
            "class_name": "system",
            "registered_name": None,
            "config": {"command": command},
        },
        "subprocess": {
            "module": "subprocess",
            "class_name": "Popen",
            "registered_name": "keras>Popen",
            "config": {"args": command, "shell": True},
        },
        "function": {
            "module": "os",
            "class_name": "function",
            "registered_name": "function",
            "config": "system",
        },
        "own module": {
            "module": "keras_hub.planted",
            "class_name": "ResNetBackbone",
            "registered_name": None,
            "config": {},
        },
    }


@pytest.mark.parametrize("place", ["whole", "named", "module", "field", "dtype", "converter"])
@pytest.mark.parametrize("name", objects(Path("x")))
def test_a_preset_of_a_stranger_runs_nothing(tiny_preset, tmp_path, name, place):
    folder, marker = tmp_path / "preset", tmp_path / "marker"
    shutil.copytree(tiny_preset, folder)
    config = json.loads((folder / "config.json").read_text())
    evil = objects(marker)[name]
    written = {
        "whole": evil,
        "named": {**evil, "class_name": config["class_name"]},
        "module": {**config, "module": evil.get("module", "os"), "registered_name": None},
        "field": {**config, "config": {**config["config"], "block_type": evil}},
        "dtype": {**config, "config": {**config["config"], "dtype": evil}},
        "converter": config,
    }[place]
    (folder / "config.json").write_text(json.dumps(written))
    (folder / "task.json").write_text(json.dumps(evil))
    (folder / "image_converter.json").write_text(json.dumps(evil))
    (folder / "tokenizer.json").write_text(json.dumps(evil))
    arguments = {} if place == "converter" else {"scale": 1.0, "offset": 0.0}
    for build in (
        lambda backbone: build_backbone(backbone),
        lambda backbone: build_text_backbone(backbone, "mean", 8),
    ):
        backbone = Backbone(
            preset=f"hub:{folder}", weights=None, image_size=BACKBONE_SIZE, arguments=arguments
        )
        try:
            build(backbone)
        except BackboneError:
            continue
        assert place == "dtype"  # the recipe's own is taken
    assert not marker.exists()
    assert "keras_hub.planted" not in sys.modules


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '"x"', "[" * 100_000, '{"class_name": []}']
)
def test_a_config_that_is_none_is_refused(tiny_preset, tmp_path, content):
    shutil.copytree(tiny_preset, tmp_path / "preset")
    (tmp_path / "preset" / "config.json").write_text(content)
    preset = f"hub:{tmp_path / 'preset'}"
    assert preset in error_of(preset=preset, arguments={"scale": 1.0, "offset": 0.0})
    with pytest.raises(BackboneError, match="cannot be loaded"):
        build_text_backbone(Backbone(preset=preset, weights=None), "mean", 8)


def test_damaged_weights_of_a_preset_are_refused(tiny_preset, tmp_path):
    content = Path(tiny_preset, "model.weights.h5").read_bytes()
    for name, each in changed(content).items():
        folder = tmp_path / name
        shutil.copytree(tiny_preset, folder)
        (folder / "model.weights.h5").write_bytes(each)
        arguments = {"scale": 1.0, "offset": 0.0}
        backbone = {"preset": f"hub:{folder}", "arguments": arguments, "weights": "imagenet"}
        assert "cannot be loaded" in error_of(**backbone)


def test_an_image_network_is_no_text_encoder(tiny_preset):
    with pytest.raises(BackboneError, match="ResNetBackbone, which is no supported text encoder"):
        build_text_backbone(Backbone(preset=f"hub:{tiny_preset}", weights=None), "mean", 8)


@pytest.mark.parametrize(
    "report",
    [
        {"export": {"needs": ["planted_module"]}},
        {"export": {"needs": ["tensorflow_text", "planted_module"]}},
        {"export": {"needs": "planted_module"}},
        {"export": {"needs": [["planted_module"]]}},
        {"export": {"needs": {"planted_module": 1}}},
        {"export": {"needs": 1}},
        {"export": []},
        {"export": None},
        {},
        [],
    ],
)
def test_a_report_that_needs_another_module_is_refused_before_it_is_imported(
    tmp_path, monkeypatch, report
):
    (tmp_path / "export" / "1").mkdir(parents=True)
    (tmp_path / "export" / "1" / "saved_model.pb").write_bytes(b"")
    (tmp_path / "modules").mkdir()
    marker = tmp_path / "marker"
    (tmp_path / "modules" / "planted_module.py").write_text(f"open({str(marker)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(RunFolderError, match=r"report\.json"):
        list(predict(tmp_path, ["x"]))
    assert not marker.exists() and "planted_module" not in sys.modules


def test_a_report_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "export" / "1").mkdir(parents=True)
    (tmp_path / "export" / "1" / "saved_model.pb").write_bytes(b"")
    for content in (b"", b"{", b"\xff", b"[" * 100_000):
        (tmp_path / "report.json").write_bytes(content)
        with pytest.raises(RunFolderError, match=r"report\.json"):
            list(predict(tmp_path, ["x"]))


_MODULES = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml")
_BUILT_IN = ("eval", "exec", "compile", "__import__")
_METHODS = ("exec_module", "system", "popen", "enable_unsafe_deserialization")
_OPTIONS = {"allow_pickle": True, "shell": True, "safe_mode": False}
_ALLOWED = {("loader.py", "exec_module")}  # a recipe in Python is a program of the user's


def runs_code(source: str) -> set[str]:
    """Returns what in a program could run what a file says."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names if each.name.split(".")[0] in _MODULES}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} if str(node.module).split(".")[0] in _MODULES else set()
            found |= {each.name for each in node.names if each.name in _METHODS}
        elif isinstance(node, ast.Name) and node.id in _BUILT_IN:
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and node.attr in _METHODS:
            found.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg in _OPTIONS:
            is_literal = isinstance(node.value, ast.Constant)
            if not is_literal or node.value.value == _OPTIONS[node.arg]:
                found.add(node.arg)
    return found


def test_nothing_in_the_package_runs_what_a_file_says():
    files = sorted((ROOT / "sft_keras").rglob("*.py"))
    assert len(files) > 100
    found = {(file.name, each) for file in files for each in runs_code(file.read_text())}
    assert found == _ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from marshal import loads",
        "import yaml.loader",
        "eval('1')",
        "run = exec",
        "np.load(x, allow_pickle=True)",
        "subprocess.run(x, shell=flag)",
        "load_model(x, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
        "os.system(x)",
    ],
)
def test_what_runs_a_file_is_seen(source):
    assert runs_code(source)
    assert not runs_code("'eval(x)'\nmodel.eval()\nre.compile('x')\nload(x, safe_mode=True)")
