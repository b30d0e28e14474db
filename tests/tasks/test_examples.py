"""Which examples a report shows, in which order."""

import numpy as np
from prepared_split import held_split

from sft_keras.tasks.image_classification.examples import image_examples


def test_mistakes_come_by_confidence_and_doubt_by_how_close_the_second_is():
    images = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
    split = held_split(images, [0, 1, 2, 0, 1])
    probabilities = np.array(
        [[0.9, 0.1, 0.0], [0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.41, 0.4, 0.19], [0.2, 0.5, 0.3]]
    )
    shown = image_examples(probabilities, split, "abc")
    assert [each["id"] for each in shown.mistakes] == ["train[2]", "train[1]"]
    (first, *_) = shown.uncertain
    assert [each["id"][-2] for each in shown.uncertain] == list("34120")
    assert (first["predicted"], first["second"], first["true"]) == ("a", "b", "a")
    assert (first["probability"], first["second_probability"]) == (0.41, 0.4)
    # An example that is in both has the same picture.
    numbers = {each["id"]: each["picture"] for each in shown.uncertain}
    assert all(numbers[each["id"]] == each["picture"] for each in shown.mistakes)
    assert len(shown.pictures) == 5 and len(set(shown.pictures)) == 5
