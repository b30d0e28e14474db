"""Pixels are what a viewer shows: Exif orientation, transparency, 16 bits, formats of Pillow."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from sft_keras.vision.conversion import image_format, to_png
from sft_keras.vision.decode import decode_image
from sft_keras.vision.faults import undecodable_reason

RANDOM = np.random.default_rng(0)
RGB = Image.fromarray(RANDOM.integers(0, 256, (5, 7, 3)).astype(np.uint8))
RGBA = Image.fromarray(RANDOM.integers(0, 256, (5, 7, 4)).astype(np.uint8))


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(content, background="white"):
    return decode_image(tf.constant(content), background).numpy().astype(int)


def shown(content, background="white"):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGBA")
    canvas = Image.new("RGBA", image.size, background)
    canvas.alpha_composite(image)
    return np.asarray(canvas.convert("RGB")).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_images_are_turned_upright(orientation, order, gradient):
    exif = Image.Exif()
    exif.endian = order
    exif[0x0112] = orientation
    jpeg = encoded(Image.fromarray(gradient), "JPEG", exif=exif, quality=95)
    assert np.abs(decoded(jpeg) - shown(jpeg)).max() <= 4
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        content = encoded(RGB, kind, exif=exif, **options)
        assert (decoded(content) == shown(content)).all()


@pytest.mark.parametrize("background", ["white", "black"])
def test_transparent_images_are_put_on_the_background(background):
    opaque_or_not = np.array(RGBA)
    opaque_or_not[..., 3] = np.where(opaque_or_not[..., 3] > 128, 255, 0)
    for content in (
        encoded(RGBA, "PNG"),
        encoded(RGBA.convert("LA"), "PNG"),
        encoded(RGB.quantize(8), "PNG", transparency=bytes(range(0, 256, 32))),
        encoded(RGB, "PNG", transparency=RGB.getpixel((0, 0))),
        encoded(RGBA, "WEBP", lossless=True, exact=True),
        encoded(Image.fromarray(opaque_or_not), "GIF"),
    ):
        assert (decoded(content, background) == shown(content, background)).all()


def test_without_a_background_the_stored_colours_are_read():
    assert (decoded(encoded(RGBA, "PNG"), "none") == np.array(RGBA)[..., :3]).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_16_bits_are_scaled_by_the_range_in_use(bits):
    values = np.array([[0, 2**bits // 2, 2**bits - 1]], np.uint16)
    png = encoded(Image.fromarray(values), "PNG")
    assert decoded(png)[0, :, 0].tolist() == [0, 128, 255]
    assert decoded(to_png(encoded(Image.fromarray(values), "TIFF")))[0, :, 0].tolist() == [
        0,
        128,
        255,
    ]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TIFF", "TIFF"),
        ("PPM", "PNM"),
        ("JPEG2000", "JPEG 2000"),
        ("AVIF", "AVIF"),
        ("HEIF", "HEIC"),
    ],
)
def test_other_formats_are_converted_and_refused_by_tensorflow(kind, name, gradient):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    content = encoded(Image.fromarray(gradient), kind)
    assert image_format(content) == name
    assert f"a {name}, which TensorFlow cannot decode" in undecodable_reason(content)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(tf.constant(content))
    assert np.abs(decoded(to_png(content)) - shown(content)).max() == 0
    assert "damaged or truncated" in undecodable_reason(content[: len(content) // 2])


def test_numbers_of_unknown_range_are_refused():
    content = encoded(Image.fromarray(np.array([[0.5, 1e6]], np.float32)), "TIFF")
    assert "whose range is unknown" in undecodable_reason(content)
