"""EfficientNet-Lite0 on scikit-learn's handwritten digits; nothing is downloaded.

A bundled ImageNet backbone on real images: 1,797 digits of 8 x 8 pixels, enlarged. Digits look
unlike ImageNet images, so unfreezing the top blocks matters here.

Run       python -m sft_keras.run --recipe=quickstart
Sources   Tan & Le 2019, arXiv:1905.11946; keras.io/guides/transfer_learning
"""

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.tasks import ImageClassification

recipe = Recipe(
    task=ImageClassification(dropout=0.2),
    data=Data(source="digits", batch_size=32),
    backbone=Backbone(preset="bundled:efficientnet_lite0", image_size=(64, 64)),
    stages=(
        Stage(name="head", epochs=4, learning_rate=3e-3),
        # Only once the head has converged: a random head's gradients would damage the backbone.
        Stage(name="top", epochs=6, learning_rate=1e-3, schedule="cosine", warmup=0.1, unfreeze=6),
    ),
)
