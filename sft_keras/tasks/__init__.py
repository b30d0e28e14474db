"""Tasks: what a model is trained to predict. Importing this does not import TensorFlow.

Each task is a room of its own; the modules beside the rooms are what several of them share.
"""

from sft_keras.tasks.image_classification.config import ImageClassification
from sft_keras.tasks.masked_lm.config import MaskedLM
from sft_keras.tasks.question_answering.config import QuestionAnswering
from sft_keras.tasks.text_classification.config import (
    TextClassification,
    TextMultiLabel,
    TextRegression,
)
from sft_keras.tasks.token_classification.config import TokenClassification
from sft_keras.text.augment_config import TextAugment
from sft_keras.text.clean_config import Clean
from sft_keras.vision.augment_config import Augment

__all__ = [
    "Augment",
    "Clean",
    "ImageClassification",
    "MaskedLM",
    "QuestionAnswering",
    "TextAugment",
    "TextClassification",
    "TextMultiLabel",
    "TextRegression",
    "TokenClassification",
]
