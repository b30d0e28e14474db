"""How an exported file is compared with the trained model, and when it is rejected."""

import json
import sys

import keras
import numpy as np
import pytest

from sft_keras.export import runtime_probe
from sft_keras.export.comparison import align_outputs, differences
from sft_keras.export.export import rejection_reason
from sft_keras.export.formats import FORMATS
from sft_keras.export.probe_inputs import ProbeInputs, text_batches, write_probe_inputs
from sft_keras.export.saved_model import output_tolerance


def row(validation=(0.9, 0.9), test=(0.9, 0.9), largest=0.3):
    score = {"name": "accuracy", "trained": test[0], "exported": test[1]}
    held = {"name": "accuracy", "trained": validation[0], "exported": validation[1]}
    return {"largest_difference": largest, "score": score, "validation": held}


def test_validation_split_decides_on_quantized_files():
    target = FORMATS["litert_int8"]
    assert rejection_reason(target, row(test=(0.9, 0.5))) == ""
    assert rejection_reason(target, row(validation=(0.9, 0.89))) == ""
    assert "validation drops from 0.9000 to 0.8890" in rejection_reason(
        target, row(validation=(0.9, 0.889))
    )


def test_float_files_must_reproduce_the_probabilities():
    for name in ("litert", "onnx"):
        assert rejection_reason(FORMATS[name], row(largest=1e-3)) == ""
        assert "Received: a difference of 0.0011" in rejection_reason(
            FORMATS[name], row(largest=1.1e-3)
        )
        assert rejection_reason(FORMATS[name], row(largest=float("nan")))


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("float32", 1e-4), ("mixed_bfloat16", 5e-2), ("mixed_float16", 5e-2)]
)
def test_tolerance_depends_on_the_compute_dtype(policy, tolerance):
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.layers.Dense(3, dtype=policy)])
    model = keras.Model(inputs, keras.layers.Softmax(dtype="float32")(inner(inputs)))
    assert output_tolerance(model) == tolerance


def test_padding_is_not_compared(tmp_path):
    mask = np.array([[1, 1, 0], [1, 0, 0]], np.int32)
    expected = np.zeros((2, 3, 2), np.float32)
    expected[mask == 1] = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]
    outputs = expected.copy()
    outputs[mask == 0] = [0.5, 0.5]
    batches = [{"padding_mask": mask, "token_ids": mask}]
    inputs = write_probe_inputs(batches, outputs, tmp_path / "inputs")
    np.testing.assert_array_equal(inputs.expected, expected)
    assert differences(outputs, inputs) == {"largest_difference": 0.0, "agreement": 1.0}
    outputs[0, 1] = [0.7, 0.3]
    measured = differences(outputs, inputs)
    assert measured["largest_difference"] == pytest.approx(0.5)
    assert measured["agreement"] == pytest.approx(2 / 3)
    np.testing.assert_array_equal(align_outputs(expected[:, :2], inputs), expected)


def test_nan_outputs_are_rejected():
    inputs = ProbeInputs(None, np.array([[1.0, 0.0]], np.float32), np.array([True]))
    measured = differences(np.array([[np.nan, np.nan]], np.float32), inputs)
    assert rejection_reason(FORMATS["litert"], {**row(), **measured})


def test_timed_batches_are_full_and_not_longer_than_their_texts(tmp_path):
    mask = np.zeros((3, 8), np.int32)
    mask[0, :5], mask[1, :7], mask[2, :2] = 1, 1, 1
    write_probe_inputs([{"padding_mask": mask}], np.zeros((3, 2), np.float32), tmp_path / "inputs")
    masks = [
        np.load(tmp_path / "inputs" / f"timed-{n}.npz")["padding_mask"] for n in ("001", "032")
    ]
    assert [mask.shape for mask in masks] == [(1, 5), (32, 7)]


def test_texts_keep_trailing_zero_bytes():
    texts = {"texts": np.array([b"a\0\0", b"", b"\xc3\xa9t\xc3\xa9."], object)}
    batches = list(text_batches(texts, 2))
    assert [len(batch["texts"]) for batch in batches] == [2, 1]
    decoded = [text for batch in batches for text in runtime_probe._decode_texts(batch["texts"])]
    assert decoded == texts["texts"].tolist()


def test_quantization_follows_the_scales_of_the_file():
    plain = {"quantization": (1.0, 0), "dtype": np.uint8}
    pixels = np.array([0, 7, 255], np.uint8)
    np.testing.assert_array_equal(runtime_probe._quantize(pixels, plain), pixels)
    np.testing.assert_array_equal(runtime_probe._quantize(pixels.astype(np.float32), plain), pixels)
    halved = {"quantization": (2.0, -128), "dtype": np.int8}
    np.testing.assert_array_equal(runtime_probe._quantize(pixels, halved), [-128, -124, 0])
    ids = np.array([5], np.int32)
    assert runtime_probe._quantize(ids, {"quantization": (0.0, 0), "dtype": np.int32}) == 5
    probabilities = runtime_probe._dequantize(
        np.array([0, 255], np.uint8), {"quantization": (1 / 256, 0)}
    )
    np.testing.assert_allclose(probabilities, [0, 255 / 256])


def test_probe_that_imports_more_than_its_runtime_fails(tmp_path, monkeypatch):
    monkeypatch.setitem(runtime_probe._RUNTIMES, "onnx", lambda plan: (None, {}))
    plan = {"runtime": "onnx", "inputs": str(tmp_path), "outputs": str(tmp_path / "o.npz")}
    assert "sft_keras" in sys.modules
    with pytest.raises(SystemExit, match=r"imported .*sft_keras"):
        runtime_probe.main(json.dumps(plan))
