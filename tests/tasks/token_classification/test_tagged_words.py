"""Lists of words and tags from Python: read as files are, or refused with a message."""

import dataclasses
import re

import numpy as np
import pytest

from sft_keras import Data, TaggedWords
from sft_keras.core.errors import DataError
from sft_keras.recipe.loader import load_recipe
from sft_keras.tasks.base import build_task
from sft_keras.tasks.token_classification.source import list_tagged_sentences
from sft_keras.tasks.token_classification.tag_schemes import DEFAULT_FORMAT, TagFormat


def listed(words, tags, tag_format=DEFAULT_FORMAT):
    return list_tagged_sentences(Data(source=TaggedWords((words, tags))), 0, tag_format)


def entities(listing):
    return dict(zip(listing.class_names, listing.parts["train"].occurrences.sum(axis=0).tolist()))


def test_tags_out_of_order_and_blank_words_are_counted():
    words = [["Ada", "lived", " "], ["Bob", "Rome"], ["\u200b"]]
    found = listed(words, [["B-PER", "O", "O"], ["I-PER", "B-LOC"], ["O"]])
    assert entities(found) == {"LOC": 1, "PER": 2}
    assert found.facts["dropped"] == {"blank words": 2}
    assert found.facts["notes"] == [
        "1 tag was I-TYPE after O or after another type and read as B-TYPE, the beginning of an "
        "entity (train[1]: word 0: I-PER after O)."
    ]
    assert found.parts["train"].ids == ("train[0]", "train[1]")


def test_tags_that_contradict_iobes_are_named():
    message = r"IOBES.*data\.on_fault=drop.*train\[1\]: word 0: E-A after O"
    with pytest.raises(DataError, match=re.compile(message, re.DOTALL)):
        listed([["a"], ["b"]], [["S-A"], ["E-A"]])
    source = TaggedWords(([["a"], ["b"]], [["S-A"], ["E-A"]]))
    found = list_tagged_sentences(Data(source=source, on_fault="drop"), 0)
    assert found.facts["dropped"] == {"sentences with tags out of order": 1}


def test_tags_without_prefixes_are_read_by_the_options_of_the_task():
    words, tags = [["Ada", "Lovelace", "lived"]] * 2, [["PER", "PER", "_"]] * 2
    with pytest.raises(DataError, match=r"'PER', '_'.*task\.tag_scheme=IO.*task\.outside_tag=TAG"):
        listed(words, tags)
    found = listed(words, tags, TagFormat("IO", "_"))
    assert entities(found) == {"PER": 2} and found.facts["scheme"] == "IO"


def test_the_options_are_those_of_the_recipe():
    overrides = ["task.tag_scheme=IO", "task.outside_tag=0"]
    recipe = load_recipe("bert_ner", overrides).recipe
    source = TaggedWords(([["Ada", "lived"]] * 9, [["PER", "0"]] * 9))
    recipe = dataclasses.replace(recipe, data=Data(source=source))
    assert build_task(recipe).open_data(0).info.class_names == ("PER",)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((["a"], [["O"]]), r"train\[0\] must be a list of words"),
        (([["a"]], ["O"]), r"train\[0\] must have a list of tags. Received: 'O'"),
        (([["a"]], [[["O"]]]), r"train\[0\] must have a list of tags"),
        (([["a"]], [[3]]), r"Received: 3\. Tags must be texts; replace class numbers"),
        (([["a"]], [np.array([3])]), r"Tags must be texts; replace class numbers"),
        ([(["a"], ["O"])] * 3, r"`train` must be a pair of lists.*tuple\(zip\(\*pairs\)\)"),
    ],
)
def test_lists_of_another_form_are_refused(source, message):
    with pytest.raises(DataError, match=message):
        list_tagged_sentences(Data(source=TaggedWords(source)), 0)
