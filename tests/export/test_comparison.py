"""What is counted of an exported file's answers, and what decides whether it is kept."""

import json
import sys

import keras
import numpy as np
import pytest

from sft_keras.export import runtime_probe as asking
from sft_keras.export.comparison import as_expected, differences
from sft_keras.export.export import _reason
from sft_keras.export.formats import FORMATS
from sft_keras.export.probe_inputs import Questions, served_batches, written
from sft_keras.export.saved_model import largest_difference


def row(validation=(0.9, 0.9), test=(0.9, 0.9), largest=0.3):
    score = {"name": "accuracy", "trained": test[0], "exported": test[1]}
    held = {"name": "accuracy", "trained": validation[0], "exported": validation[1]}
    return {"largest_difference": largest, "score": score, "validation": held}


def test_validation_decides_on_integers_and_the_test_split_does_not():
    made = FORMATS["litert_int8"]
    assert _reason(made, row(test=(0.9, 0.5))) == ""
    assert _reason(made, row(validation=(0.9, 0.89))) == ""
    assert "validation falls from 0.9000 to 0.8890" in _reason(made, row(validation=(0.9, 0.889)))


def test_a_file_in_floats_must_have_the_same_probabilities():
    for name in ("litert", "onnx"):
        assert _reason(FORMATS[name], row(largest=1e-3)) == ""
        assert "received a difference of 0.0011" in _reason(FORMATS[name], row(largest=1.1e-3))
        assert _reason(FORMATS[name], row(largest=float("nan")))


@pytest.mark.parametrize(
    ("policy", "largest"), [("float32", 1e-4), ("mixed_bfloat16", 5e-2), ("mixed_float16", 5e-2)]
)
def test_what_computes_in_half_precision_may_differ_by_its_last_digit(policy, largest):
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.layers.Dense(3, dtype=policy)])
    model = keras.Model(inputs, keras.layers.Softmax(dtype="float32")(inner(inputs)))
    assert largest_difference(model) == largest


def test_padding_is_not_compared(tmp_path):
    mask = np.array([[1, 1, 0], [1, 0, 0]], np.int32)
    expected = np.zeros((2, 3, 2), np.float32)
    expected[mask == 1] = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]
    outputs = expected.copy()
    outputs[mask == 0] = [0.5, 0.5]
    batches = [{"padding_mask": mask, "token_ids": mask}]
    asked = written(batches, outputs, tmp_path / "asked")
    np.testing.assert_array_equal(asked.expected, expected)
    assert differences(outputs, asked) == {"largest_difference": 0.0, "agreement": 1.0}
    outputs[0, 1] = [0.7, 0.3]
    found = differences(outputs, asked)
    assert found["largest_difference"] == pytest.approx(0.5)
    assert found["agreement"] == pytest.approx(2 / 3)
    np.testing.assert_array_equal(as_expected(expected[:, :2], asked), expected)


def test_a_difference_that_is_no_number_is_no_agreement():
    asked = Questions(None, np.array([[1.0, 0.0]], np.float32), np.array([True]))
    found = differences(np.array([[np.nan, np.nan]], np.float32), asked)
    assert _reason(FORMATS["litert"], {**row(), **found})


def test_batches_whose_latency_is_measured_are_full_and_as_short_as_their_texts(tmp_path):
    mask = np.zeros((3, 8), np.int32)
    mask[0, :5], mask[1, :7], mask[2, :2] = 1, 1, 1
    written([{"padding_mask": mask}], np.zeros((3, 2), np.float32), tmp_path / "asked")
    shapes = [
        np.load(tmp_path / "asked" / f"timed-{n}.npz")["padding_mask"] for n in ("001", "032")
    ]
    assert [each.shape for each in shapes] == [(1, 5), (32, 7)]


def test_texts_reach_the_process_with_the_zeros_at_their_end():
    texts = {"texts": np.array([b"a\0\0", b"", b"\xc3\xa9t\xc3\xa9."], object)}
    batches = list(served_batches(texts, 2))
    assert [len(each["texts"]) for each in batches] == [2, 1]
    given = [text for each in batches for text in asking._texts(each["texts"])]
    assert given == texts["texts"].tolist()


def test_integers_stand_for_what_the_file_says():
    plain = {"quantization": (1.0, 0), "dtype": np.uint8}
    pixels = np.array([0, 7, 255], np.uint8)
    np.testing.assert_array_equal(asking._quantized(pixels, plain), pixels)
    np.testing.assert_array_equal(asking._quantized(pixels.astype(np.float32), plain), pixels)
    halved = {"quantization": (2.0, -128), "dtype": np.int8}
    np.testing.assert_array_equal(asking._quantized(pixels, halved), [-128, -124, 0])
    ids = np.array([5], np.int32)
    assert asking._quantized(ids, {"quantization": (0.0, 0), "dtype": np.int32}) == 5
    given = asking._as_floats(np.array([0, 255], np.uint8), {"quantization": (1 / 256, 0)})
    np.testing.assert_allclose(given, [0, 255 / 256])


def test_a_process_that_knows_more_than_its_runtime_fails(tmp_path, monkeypatch):
    monkeypatch.setitem(asking._RUNTIMES, "onnx", lambda plan: (None, {}))
    plan = {"runtime": "onnx", "inputs": str(tmp_path), "outputs": str(tmp_path / "o.npz")}
    assert "sft_keras" in sys.modules
    with pytest.raises(SystemExit, match=r"it imported .*sft_keras"):
        asking.main(json.dumps(plan))
