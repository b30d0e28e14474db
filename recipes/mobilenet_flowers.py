"""MobileNet (width 0.75) on tf_flowers at 160 px: small enough to train on a laptop CPU.

Run       python -m sft_keras.run --recipe=mobilenet_flowers
Needs     downloads the ImageNet weights of MobileNet (5 MB) and tf_flowers (218 MB)
Sources   Howard et al. 2017, arXiv:1704.04861; keras.io/guides/transfer_learning
"""

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.tasks import ImageClassification

recipe = Recipe(
    # Without augmentation, the features of the frozen blocks are computed once and cached.
    task=ImageClassification(dropout=0.3),
    data=Data(source="tfds:tf_flowers", batch_size=32),
    backbone=Backbone(preset="keras:mobilenet", image_size=(160, 160), arguments={"alpha": 0.75}),
    stages=(
        Stage(name="head", epochs=12, learning_rate=3e-3, schedule="cosine"),
        Stage(name="top", epochs=12, learning_rate=5e-4, unfreeze=4, schedule="cosine", warmup=0.1),
    ),
)
