"""ResNet50 on cats_vs_dogs: train a new head, then the three residual blocks of conv5.

Run       python -m sft_keras.run --recipe=resnet50_cats_dogs
Needs     downloads the ImageNet weights of ResNet50 (95 MB) and cats_vs_dogs (787 MB)
Sources   He et al. 2016, arXiv:1512.03385; Elson et al. 2007 (Asirra)
"""

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.tasks import Augment, ImageClassification

recipe = Recipe(
    task=ImageClassification(dropout=0.2, augment=Augment(flip=True)),
    data=Data(source="tfds:cats_vs_dogs", batch_size=32),
    backbone=Backbone(preset="keras:resnet50", image_size=(224, 224)),
    stages=(
        Stage(name="head", epochs=3, learning_rate=1e-3),
        Stage(name="top", epochs=3, learning_rate=1e-4, unfreeze=3, schedule="cosine", warmup=0.1),
    ),
)
