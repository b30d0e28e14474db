"""What a backbone reads of texts: special tokens, pairs, cutting off, padding."""

import pytest
import tensorflow as tf

from sft_keras import Backbone
from sft_keras.backbones.text import tiny_vocabulary
from sft_keras.text.encoder import SpecialTokens, TextEncoder, build_encoder
from sft_keras.text.wordpiece import Pieces

WORDS = tiny_vocabulary()


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(Backbone(preset="tiny:bert"), sequence_length=9)


def words(inputs, row=0):
    return [WORDS[token].removeprefix("##") for token in inputs["token_ids"][row].numpy()]


def test_a_text_stands_between_start_and_end_and_is_padded(encoder):
    inputs = encoder.encode(tf.constant(["ab", "abcd"]))
    assert words(inputs) == ["[CLS]", "a", "b", "[SEP]", "[PAD]", "[PAD]"]
    assert inputs["padding_mask"].numpy().tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]
    assert not inputs["segment_ids"].numpy().any()


def test_the_end_of_a_long_text_is_cut_off_and_how_long_it_was_is_known(encoder):
    tokens = encoder.tokenize(tf.constant(["abcdefghij", "ab"]))
    inputs = encoder.encode(tf.constant(["abcdefghij", "ab"]))
    assert words(inputs) == ["[CLS]", *"abcdefg", "[SEP]"]
    assert tokens.lengths.numpy().tolist() == [12, 4]


def test_the_second_of_a_pair_is_a_segment_of_its_own(encoder):
    inputs = encoder.encode(tf.constant(["a", "a"]), tf.constant(["xy", "x"]))
    assert words(inputs) == ["[CLS]", "a", "[SEP]", "x", "y", "[SEP]"]
    assert inputs["segment_ids"].numpy().tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0]]


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("abcdefgh", "xy", ("abcd", "xy")),
        ("ab", "stuvwxyz", ("ab", "stuv")),
        ("abcdefgh", "stuvwxyz", ("abc", "stu")),
        ("", "stuvwxyz", ("", "stuvwx")),
    ],
)
def test_of_a_pair_the_longer_is_cut_off(encoder, first, second, kept):
    inputs = encoder.encode(tf.constant([first]), tf.constant([second]))
    assert words(inputs) == ["[CLS]", *kept[0], "[SEP]", *kept[1], "[SEP]"]


def test_a_family_without_segments_ends_the_first_of_a_pair_twice():
    pieces = tf.ragged.constant([[7, 8]], tf.int32, row_splits_dtype=tf.int64)
    encoder = TextEncoder(
        lambda texts: Pieces(pieces, None, None),
        SpecialTokens(pad=1, start=0, end=2, mask=9),
        sequence_length=10,
        has_segments=False,
        ends_twice=True,
    )
    inputs = encoder.encode(tf.constant(["a"]), tf.constant(["b"]))
    assert set(inputs) == {"token_ids", "padding_mask"}
    assert inputs["token_ids"].numpy().tolist() == [[0, 7, 8, 2, 2, 7, 8, 2]]


def test_texts_may_be_padded_to_any_length(encoder):
    tokens = encoder.tokenize(tf.constant(["abc"]))
    for length in (3, 5, 8):
        inputs = encoder.pad(tokens.ids, tokens.second_starts, length)
        assert {each.shape[1] for each in inputs.values()} == {length}
        assert words(inputs) == ["[CLS]", *"abc", "[SEP]", *["[PAD]"] * 3][:length]
