"""ResNet50 on tf_flowers: train a new head, then the three residual blocks of conv5.

Run       python -m sft_keras.run --recipe=resnet50_flowers
Needs     downloads the ImageNet weights of ResNet50 (95 MB) and tf_flowers (218 MB)
Sources   He et al. 2016, arXiv:1512.03385; keras.io/guides/transfer_learning
"""

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.tasks import Augment, ImageClassification

recipe = Recipe(
    task=ImageClassification(dropout=0.3, augment=Augment(flip=True, rotation=0.05, zoom=0.1)),
    data=Data(source="tfds:tf_flowers", batch_size=32),
    backbone=Backbone(preset="keras:resnet50", image_size=(224, 224)),
    stages=(
        Stage(name="head", epochs=15, learning_rate=1e-3, patience=3),
        Stage(name="top", epochs=10, learning_rate=1e-4, unfreeze=3, schedule="cosine", warmup=0.1),
    ),
)
