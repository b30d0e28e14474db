import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from sft_keras.vision.decode import decode_image, resize_image
from sft_keras.vision.faults import undecodable_reason

decode = tf.function(decode_image, input_signature=[tf.TensorSpec([], tf.string)])


def _by_pillow(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("kind", "mode", "options", "tolerance"),
    [
        ("JPEG", None, {"quality": 95}, 4),
        ("JPEG", None, {"quality": 95, "progressive": True}, 4),
        ("JPEG", "L", {"quality": 95}, 2),
        ("JPEG", "CMYK", {"quality": 95}, 4),
        ("PNG", None, {}, 0),
        ("PNG", "L", {}, 0),
        ("PNG", "LA", {}, 0),
        ("PNG", "RGBA", {}, 0),
        ("PNG", "P", {}, 0),
        ("PNG", "1", {}, 0),
        ("GIF", "P", {}, 0),
        ("BMP", None, {}, 0),
        ("BMP", "L", {}, 0),
        ("BMP", "P", {}, 0),
        ("BMP", "RGBA", {}, 0),
        ("WEBP", None, {"quality": 95}, 2),
        ("WEBP", None, {"lossless": True}, 0),
    ],
)
def test_colours_are_those_that_pillow_sees(gradient, encode, kind, mode, options, tolerance):
    encoded = encode(gradient, kind, mode, **options)
    decoded = decode(encoded)
    assert decoded.dtype == tf.uint8
    assert decoded.shape == (48, 64, 3)
    assert np.abs(decoded.numpy() - _by_pillow(encoded)).max() <= tolerance


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits_is_cut_to_8(gradient, channels):
    pixels = np.concatenate([gradient, gradient[..., :1]], axis=-1)[..., :channels]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    decoded = decode(_png_of_16_bits(pixels.astype(np.uint16) * 256 + 255, colour_type)).numpy()
    colours = pixels[..., : 3 if channels > 2 else 1].astype(int)
    if channels in (2, 4):
        opacity = pixels[..., -1:].astype(int)
        colours = (colours * opacity + 255 * (255 - opacity) + 127) // 255
    assert (decoded == colours).all()


def _png_of_16_bits(pixels, colour_type):
    def chunk(name, content):
        length, check = len(content), zlib.crc32(name + content)
        return struct.pack(">I", length) + name + content + struct.pack(">I", check)

    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_of_an_animated_gif_the_first_frame_is_taken(gradient, encode):
    later = [Image.fromarray(255 - gradient), Image.fromarray(gradient[::-1])]
    encoded = encode(gradient, "GIF", save_all=True, append_images=later, duration=50)
    assert Image.open(io.BytesIO(encoded)).n_frames == 3
    assert (decode(encoded).numpy() == _by_pillow(encoded)).all()


def test_what_cannot_be_decoded_is_said_in_words(gradient, encode):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    other = [Image.fromarray(255 - gradient)]
    animated = encode(gradient, "WEBP", save_all=True, append_images=other, lossless=True)
    jpeg = encode(gradient, "JPEG")
    for encoded, expected in [
        (b"", "empty, 0 bytes"),
        (b"dear reader", "not an image: neither JPEG"),
        (jpeg[: len(jpeg) // 2], "damaged or truncated JPEG"),
        (jpeg[:-2], "damaged or truncated JPEG"),
        (encode(noise, "PNG")[:-900], "damaged or truncated PNG"),
        (encode(noise, "GIF")[:-900], "damaged or truncated GIF"),
        (encode(noise, "BMP")[:-9], "damaged or truncated BMP"),
        (encode(noise, "BMP", "P")[:-9], "damaged or truncated BMP"),
        (encode(noise, "WEBP")[:-99], "damaged or truncated WebP"),
        (encode(gradient, "BMP", "1"), "a BMP of 1 bits per pixel"),
        (animated, "an animated WebP"),
        (b"BM", "damaged or truncated BMP"),
        (encode(gradient, "TIFF"), "a TIFF, which TensorFlow cannot decode"),
    ]:
        assert expected in str(undecodable_reason(encoded))
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(encoded)
    assert undecodable_reason(jpeg) is None


def test_a_compressed_bmp_is_refused_rather_than_read_wrongly(gradient, encode):
    encoded = bytearray(encode(gradient, "BMP", "P"))
    encoded[30] = 1  # RLE8
    assert "compressed BMP" in undecodable_reason(bytes(encoded))


def test_a_palette_beyond_the_end_of_its_file_is_refused(gradient, encode):
    encoded = bytearray(encode(gradient, "BMP", "P"))
    encoded[14:17] = b"\xc6\xff\xff"  # the header's size, after which the palette begins
    assert "damaged or truncated BMP" in undecodable_reason(bytes(encoded))


@pytest.mark.parametrize("shape", [(30, 60), (60, 30), (17, 31), (1, 300), (300, 1), (16, 24)])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_every_shape_is_brought_to_the_size(shape, fit):
    resize = tf.function(lambda image: resize_image(image, (16, 24), fit))
    grey = np.full((*shape, 1), 90, np.uint8)
    resized = resize(tf.constant(grey)).numpy()
    assert resized.dtype == np.uint8
    assert resized.shape == (16, 24, 3)
    assert set(np.unique(resized)) <= ({90, 0} if fit == "pad" else {90})
    assert resize(tf.constant(grey.astype(np.float32))).shape == (16, 24, 3)


def test_stretch_shows_all_crop_the_middle_and_pad_adds_black():
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, :20, 0], image[:, 20:40, 1], image[:, 40:, 2] = 200, 200, 200
    stretched = resize_image(image, (20, 20), "stretch").numpy()
    assert [stretched[10, column].argmax() for column in (2, 10, 17)] == [0, 1, 2]
    cropped = resize_image(image, (20, 20), "crop").numpy()
    assert (cropped == [0, 200, 0]).all()
    padded = resize_image(image, (20, 20), "pad").numpy()
    black = (padded == 0).all(axis=(1, 2))
    assert black.tolist() == [True] * 6 + [False] * 7 + [True] * 7
    assert (padded[9, 2] == [200, 0, 0]).all()


def test_an_image_of_the_right_size_stays_as_it_is(gradient):
    for fit in ("stretch", "crop", "pad"):
        assert (resize_image(gradient, (48, 64), fit).numpy() == gradient).all()


def test_shrinking_is_antialiased_as_pillow_does_it():
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    size = (24, 32)
    expected = Image.fromarray(noise).resize(size[::-1], Image.Resampling.BILINEAR)
    difference = resize_image(noise, size, "stretch").numpy() - np.asarray(expected).astype(int)
    assert np.abs(difference).max() <= 1


def test_a_fourth_channel_is_dropped_and_grey_is_spread(gradient):
    with_alpha = np.concatenate([gradient, gradient[..., :1] // 2], axis=-1)
    assert (resize_image(with_alpha, (48, 64), "stretch").numpy() == gradient).all()
    grey = resize_image(gradient[..., :1], (48, 64), "stretch").numpy()
    assert (grey == gradient[..., :1]).all()


def test_decoding_and_resizing_run_from_a_saved_model(tmp_path, gradient, encode):
    module = tf.Module()
    module.serve = tf.function(
        lambda encoded: tf.map_fn(
            lambda one: resize_image(decode_image(one), (16, 16), "crop"),
            encoded,
            fn_output_signature=tf.TensorSpec([16, 16, 3], tf.uint8),
        ),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path / "saved"))
    files = [encode(gradient, "JPEG"), encode(gradient, "BMP", "P"), encode(gradient, "PNG", "L")]
    served = tf.saved_model.load(str(tmp_path / "saved")).serve(tf.constant(files)).numpy()
    for image, file in zip(served, files):
        here = resize_image(decode_image(tf.constant(file)), (16, 16), "crop").numpy()
        assert (image == here).all()
