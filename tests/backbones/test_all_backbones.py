"""Every row of the tables of backbones: built small, covered by its blocks, cut at each of them."""

from __future__ import annotations

import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
from backbone_checks import assert_covers, assert_parts_make_the_whole

from sft_keras.backbones.applications import APPLICATIONS
from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.build import build_backbone
from sft_keras.backbones.hub import HUB_FAMILIES
from sft_keras.recipe.backbone import Backbone

pytestmark = pytest.mark.slow

IN_CI = ("vgg16", "resnet50", "mobilenet_v2", "convnext_tiny")
"""Families that CI cuts too; the nightly run cuts all."""

# Blocks with the stem, for one member of each family; the rest differ in depth and width only.
BLOCKS = {
    "vgg16": 5,
    "resnet50": 17,
    "resnet50v2": 17,
    "mobilenet": 14,
    "mobilenet_v2": 18,
    "mobilenet_v3_small": 12,
    "efficientnet_b0": 17,
    "efficientnet_v2_b0": 22,
    "efficientnet_v2_s": 41,
    "densenet121": 5,
    "inception_v3": 12,
    "xception": 14,
    "convnext_tiny": 19,
}


def assert_cuts_clean_everywhere(built: BuiltBackbone) -> None:
    """Blocks hold every layer once, and Keras builds the part above each of them."""
    assert_covers(built)
    assert_parts_make_the_whole(built, 2)
    for block in built.blocks[:-1]:
        keras.Model(block.output, built.model.output)


def test_every_family_has_a_member_here():
    families = {family.blocks for _, family in APPLICATIONS.values()}
    assert {APPLICATIONS[name][1].blocks for name in BLOCKS} == families


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in IN_CI else pytest.mark.nightly) for name in BLOCKS],
)
def test_every_family_of_keras_applications_is_cut_clean_at_every_block(name):
    size = (75, 75) if name in ("inception_v3", "xception") else (32, 32)
    built = build_backbone(Backbone(preset=f"keras:{name}", weights=None, image_size=size))
    assert len(built.blocks) == BLOCKS[name]
    assert_cuts_clean_everywhere(built)
    assert len(built.model.output.shape) == 4


def test_efficientnet_scales_alike_with_weights_from_the_download_and_from_a_file(
    tmp_path, monkeypatch
):
    recipe = {"preset": "keras:efficientnet_b0", "image_size": (32, 32)}
    source = build_backbone(Backbone(**recipe, weights=None)).model
    normalization = next(x for x in source.layers if isinstance(x, keras.layers.Normalization))
    normalization.adapt_mean.assign([0.485, 0.456, 0.406])
    normalization.adapt_variance.assign([0.229, 0.224, 0.225])  # The downloaded file's, too.
    normalization.finalize_state()
    file = tmp_path / "efficientnet.weights.h5"
    source.save_weights(file)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(file))
    downloaded = build_backbone(Backbone(**recipe))
    from_file = build_backbone(Backbone(**recipe, weights=str(file)))
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")

    def stem(built: BuiltBackbone, x: np.ndarray) -> np.ndarray:
        model = keras.Model(built.model.input, built.model.get_layer("stem_conv").output)
        return np.asarray(model(x))

    assert downloaded.preprocess == ()
    (scale,) = from_file.preprocess
    expected = stem(downloaded, images)
    np.testing.assert_allclose(stem(from_file, scale(images)), expected, rtol=1e-3, atol=1e-4)
    assert not np.allclose(stem(from_file, images), expected, rtol=0.1, atol=0.1)


SHAPE = (64, 64, 3)
EFFICIENTNET = {
    "stackwise_kernel_sizes": [3, 3],
    "stackwise_num_repeats": [1, 2],
    "stackwise_input_filters": [8, 8],
    "stackwise_output_filters": [8, 16],
    "stackwise_expansion_ratios": [1, 4],
    "stackwise_squeeze_and_excite_ratios": [0.25, 0.25],
    "stackwise_strides": [1, 2],
    "stackwise_force_input_filters": [0, 0],
    "stackwise_width_coefficients": [1.0, 1.0],
    "stackwise_depth_coefficients": [1.0, 1.0],
    "input_shape": SHAPE,
}
RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 8],
    "stackwise_num_blocks": [2, 2],
    "stackwise_num_strides": [1, 2],
    "image_shape": SHAPE,
}
CSPNET = {
    "stem_filters": 8,
    "stem_kernel_size": 3,
    "stem_strides": 1,
    "stackwise_depth": [1, 2],
    "stackwise_strides": [2, 2],
    "stackwise_num_filters": [16, 32],
    "image_shape": SHAPE,
}
MOBILENET = {
    "stackwise_expansion": [[40, 56], [64, 144, 144]],
    "stackwise_num_blocks": [2, 3],
    "stackwise_num_filters": [[16, 16], [24, 24, 24]],
    "stackwise_kernel_size": [[3, 3], [5, 5, 5]],
    "stackwise_num_strides": [[2, 1], [2, 1, 1]],
    "stackwise_se_ratio": [[None, None], [0.25, 0.25, 0.25]],
    "stackwise_activation": [["relu", "relu"], ["hard_swish"] * 3],
    "stackwise_padding": [[1, 1], [2, 2, 2]],
    "output_num_filters": 64,
    "input_activation": "hard_swish",
    "output_activation": "hard_swish",
    "input_num_filters": 16,
    "depthwise_filters": 8,
    "depthwise_stride": 2,
    "depthwise_residual": False,
    "squeeze_and_excite": 0.5,
    "last_layer_filter": 32,
    "image_shape": SHAPE,
}
CROSS_STAGE = {
    **CSPNET,
    "bottle_ratio": [0.5, 1.0],
    "block_ratio": [1.0, 0.5],
    "expand_ratio": [2.0, 1.0],
}
XCEPTION = {
    "stackwise_conv_filters": [[4, 4], [8, 8], [8, 8], [8, 8]],
    "stackwise_pooling": [False, True, False, True],
    "image_shape": SHAPE,
}
# Class -> its tiny configuration -> its blocks with the stem.
HUB = [
    ("EfficientNetBackbone", {**EFFICIENTNET, "stackwise_block_types": ["v1", "v1"]}, 4),
    ("EfficientNetBackbone", {**EFFICIENTNET, "stackwise_block_types": ["fused", "unfused"]}, 4),
    ("ResNetBackbone", {**RESNET, "block_type": "bottleneck_block"}, 5),
    ("ResNetBackbone", {**RESNET, "block_type": "basic_block", "use_pre_activation": True}, 5),
    ("ResNetBackbone", {**RESNET, "block_type": "basic_block_vd"}, 5),
    (
        "VGGBackbone",
        {
            "stackwise_num_repeats": [1, 2, 1],
            "stackwise_num_filters": [4, 8, 8],
            "image_shape": SHAPE,
        },
        3,
    ),
    ("DenseNetBackbone", {"stackwise_num_repeats": [2, 2, 2], "image_shape": SHAPE}, 4),
    ("MobileNetBackbone", MOBILENET, 8),
    ("XceptionBackbone", XCEPTION, 4),
    ("CSPNetBackbone", {**CSPNET, "block_type": "dark_block", "stage_type": "dark"}, 3),
    ("CSPNetBackbone", {**CROSS_STAGE, "block_type": "dark_block", "stage_type": "csp"}, 3),
    ("CSPNetBackbone", {**CROSS_STAGE, "block_type": "bottleneck_block", "stage_type": "cs3"}, 3),
]


def test_every_hub_family_is_here():
    assert {name for name, _, _ in HUB} == set(HUB_FAMILIES)


@pytest.mark.parametrize(("name", "config", "blocks"), HUB)
def test_every_hub_family_is_cut_clean_at_every_block_and_saves(
    name: str, config: dict, blocks: int, tmp_path: Path
):
    import keras_hub

    hub_class = getattr(keras_hub.models, name)
    assert set(config) <= set(inspect.signature(hub_class).parameters)
    original = hub_class(**config)
    original.save_to_preset(str(tmp_path / "preset"))
    built = build_backbone(
        Backbone(
            preset=f"hub:{tmp_path / 'preset'}",
            image_size=SHAPE[:2],
            arguments={"scale": 1, "offset": 0},
        )
    )
    assert len(built.blocks) == blocks, [block.name for block in built.blocks]
    assert_cuts_clean_everywhere(built)
    x = np.random.default_rng(0).uniform(-1, 1, (2, *SHAPE)).astype("float32")
    np.testing.assert_allclose(built.model(x), original(x), rtol=1e-4, atol=1e-6)
    built.model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), built.model(x))
