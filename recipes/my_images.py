"""Your own images, one subfolder per class, with the bundled EfficientNet-Lite0.

    my_folder/cat/1.jpg  my_folder/cat/2.jpg  my_folder/dog/1.jpg  ...

The folder may instead hold train, val and test folders of this layout; missing splits are created.

Run       python -m sft_keras.run --recipe=my_images --set=data.source=folder:my_folder
Override  --set=backbone.preset=keras:resnet50 for another backbone
Sources   Tan & Le 2019, arXiv:1905.11946; keras.io/guides/transfer_learning
"""

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.tasks import Augment, ImageClassification

recipe = Recipe(
    task=ImageClassification(dropout=0.2, augment=Augment(flip=True, crop=0.2)),
    data=Data(source="folder:my_folder", batch_size=32),
    backbone=Backbone(preset="bundled:efficientnet_lite0", image_size=(224, 224)),
    stages=(
        Stage(name="head", epochs=10, learning_rate=1e-3, schedule="cosine", patience=3),
        Stage(
            name="top",
            epochs=10,
            learning_rate=1e-4,
            unfreeze=4,
            schedule="cosine",
            warmup=0.1,
            class_weights="balanced",
            patience=4,
        ),
    ),
)
