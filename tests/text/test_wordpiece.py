"""WordPiece splits as BERT's does, says where each piece stands, and works inside a SavedModel."""

import random

import pytest
import tensorflow as tf
from tokenizers import BertWordPieceTokenizer

from sft_keras.text.wordpiece import WordPiece

VOCABULARY = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("the", "film", "##film", "un", "##aff", "##able", "##s", "was", "nt", "cafe"),
    *("'", ".", ",", "!", "中", "文", "a", "##b", "##c", "ß", "é", "##é", "É"),
)


def pieces_of(tokenizer, text):
    found = tokenizer(tf.constant([text]))
    return [
        (tokenizer.vocabulary[piece], text[start:end])
        for piece, start, end in zip(*(each[0].numpy().tolist() for each in found))
    ]


@pytest.fixture(scope="module")
def uncased():
    return WordPiece(VOCABULARY, lowercase=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\n ", []),
        ("The films!", [("the", "The"), ("film", "film"), ("##s", "s"), ("!", "!")]),
        ("unaffable", [("un", "un"), ("##aff", "aff"), ("##able", "able")]),
        ("unaffabled", [("[UNK]", "unaffabled")]),  # the last letter is no piece
        ("wasn't", [("[UNK]", "wasn"), ("'", "'"), ("[UNK]", "t")]),
        ("CAFÉ cafe\u0301", [("cafe", "CAFÉ"), ("cafe", "cafe\u0301"[:4])]),
        ("中文film", [("中", "中"), ("文", "文"), ("film", "film")]),
        ("a" * 101, [("[UNK]", "a" * 101)]),
        ("fi\u00adlm\u200d \x00the", [("film", "fi\u00adlm"), ("the", "the")]),
        ("\U0001f600", [("[UNK]", "\U0001f600")]),
    ],
)
def test_words_are_split_into_the_longest_pieces_there_are(uncased, text, expected):
    assert pieces_of(uncased, text) == expected


def test_a_cased_vocabulary_keeps_case_and_accents():
    cased = WordPiece(VOCABULARY, lowercase=False)
    assert pieces_of(cased, "The the É é") == [
        ("[UNK]", "The"),
        ("the", "the"),
        ("É", "É"),
        ("é", "é"),
    ]


def test_texts_of_a_batch_do_not_touch(uncased):
    texts = ["", "the", "", "film the", "."]
    found = uncased(tf.constant(texts))
    assert found.ids.row_lengths().numpy().tolist() == [0, 1, 0, 2, 1]
    assert found.starts.to_list() == [[], [0], [], [0, 5], [0]]
    none = uncased(tf.constant([], tf.string))
    assert none.ids.to_list() == []


def test_special_tokens_in_a_text_are_only_text(uncased):
    assert "[MASK]" not in [piece for piece, _ in pieces_of(uncased, "a [MASK] film [SEP]")]


def reference_of(vocabulary, lowercase, folder):
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    return BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=lowercase)


@pytest.mark.parametrize("lowercase", [True, False])
def test_random_texts_of_many_scripts_are_split_like_hugging_face_does(tmp_path, lowercase):
    draw = random.Random(0)
    # Latin, Greek, Korean, Chinese, Arabic and Devanagari; punctuation, digits, a ligature, marks,
    # invisible characters, a wide space and a smiley.
    letters = (
        "abcXYZäÉßñİ\u03a3\u03c3\u03c2가힣中文\u0645\u0631\u0939\u093f \t\n.,!?'\"$^`~-_()[]{}<>@#1"
        "\u0663²\ufb01\u0301\u200d\u00ad\u3000\U0001f600"
    )
    pieces = [*{*(letters.lower() + letters + "aeinsy"), "ab", "bc"} - {" ", "\t", "\n", "\u3000"}]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]
    vocabulary += [f"##{piece}" for piece in pieces]
    vocabulary = list(dict.fromkeys(vocabulary))
    reference = reference_of(vocabulary, lowercase, tmp_path)
    tokenizer = WordPiece(vocabulary, lowercase=lowercase)
    texts = ["".join(draw.choices(letters, k=draw.randrange(40))) for _ in range(300)]
    assert_alike(tokenizer, reference, texts)


@pytest.mark.shared
def test_film_reviews_are_split_like_hugging_face_does(shared_folder):
    file = shared_folder / "weights" / "minilm_l6_fp16" / "vocab.txt"
    vocabulary = file.read_text(encoding="utf-8").splitlines()
    reviews = shared_folder / "data" / "rotten" / "rt-polarity.pos"
    texts = reviews.read_text(encoding="latin-1").splitlines()[:1000]
    reference = BertWordPieceTokenizer(str(file), lowercase=True)
    assert_alike(WordPiece(vocabulary, lowercase=True), reference, texts)


def assert_alike(tokenizer, reference, texts):
    found = [each.to_list() for each in tokenizer(tf.constant(texts))]
    for text, ids, starts, ends in zip(texts, *found, strict=True):
        expected = reference.encode(text, add_special_tokens=False)
        assert ids == expected.ids, text
        assert list(zip(starts, ends)) == expected.offsets, text


def test_a_saved_model_has_it_inside(uncased, tmp_path):
    class Served(tf.Module):
        def __init__(self):
            super().__init__()
            self.tokenizer = uncased

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, texts):
            found = self.tokenizer(texts)
            return found.ids.to_tensor(), found.starts.to_tensor(), found.ends.to_tensor()

    tf.saved_model.save(Served(), str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    texts = ["The unaffable café", "film!"]
    expected = [each.to_tensor().numpy().tolist() for each in uncased(tf.constant(texts))]
    assert [each.numpy().tolist() for each in loaded(tf.constant(texts))] == expected
