"""VGG16 on tf_flowers: train a new head, then the top block.

Run       python -m sft_keras.run --recipe=vgg_flowers
Try       python -m sft_keras.run --recipe=vgg_flowers --smoke    (synthetic data, random weights)
Override  --set=stages.top.learning_rate=1e-4 --set=data.batch_size=64
Needs     downloads the ImageNet weights of VGG16 (59 MB) and tf_flowers (218 MB)
Sources   Simonyan & Zisserman 2015, arXiv:1409.1556; keras.io/guides/transfer_learning
"""

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.tasks import Augment, ImageClassification

recipe = Recipe(
    task=ImageClassification(dropout=0.3, augment=Augment(flip=True, rotation=0.1, zoom=0.1)),
    data=Data(source="tfds:tf_flowers", batch_size=32),
    backbone=Backbone(preset="keras:vgg16", image_size=(224, 224)),
    stages=(
        Stage(name="head", epochs=20, learning_rate=1e-3, patience=3),
        # Only once the head has converged: a random head's gradients would damage the backbone.
        Stage(name="top", epochs=10, learning_rate=1e-5, unfreeze=1, warmup=0.1, patience=3),
    ),
)
