"""Tasks: what is learnt. Importing this does not import TensorFlow."""

from sft_keras.tasks.augment import Augment
from sft_keras.tasks.clean import Clean
from sft_keras.tasks.image_classification import ImageClassification
from sft_keras.tasks.masked_lm import MaskedLM
from sft_keras.tasks.question_answering import QuestionAnswering
from sft_keras.tasks.text_augment import TextAugment
from sft_keras.tasks.text_classification import TextClassification
from sft_keras.tasks.text_multi_label import TextMultiLabel
from sft_keras.tasks.text_regression import TextRegression
from sft_keras.tasks.token_classification import TokenClassification

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
