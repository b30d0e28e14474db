"""A model trained in mixed precision is exported in float32, with the same weights."""

import keras
import numpy as np
import pytest

from sft_keras.export.finished_run import half_precision_of, in_float32


@pytest.fixture
def half_model(build_staged):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return build_staged().model
    finally:
        keras.config.set_dtype_policy(before)


def test_the_copy_computes_in_float32_with_the_same_weights(half_model, build_staged):
    assert half_precision_of(half_model) == "bfloat16"
    policy = keras.config.dtype_policy()
    copy = in_float32(half_model)
    assert half_precision_of(copy) == ""
    assert keras.config.dtype_policy() == policy
    for name, weights, expected in zip(
        [weight.path for weight in copy.weights],
        copy.get_weights(),
        half_model.get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(weights, expected, err_msg=name)
    images = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype(np.float32)
    native = build_staged().model  # built in float32 from the start
    native.set_weights(half_model.get_weights())
    np.testing.assert_array_equal(copy(images), native(images))
    np.testing.assert_allclose(copy(images), half_model(images), atol=0.05)
