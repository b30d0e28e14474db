"""Tasks: what is learnt. Importing this does not import TensorFlow."""

from sft_keras.tasks.augment import Augment
from sft_keras.tasks.image_classification import ImageClassification

__all__ = ["Augment", "ImageClassification"]
