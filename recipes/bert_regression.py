"""Text regression with BERT, a number per text: train a new head, then the top layers.

Expected  depends on your texts and targets
Run       python -m sft_keras.run --recipe=bert_regression --set=data.source=csv:FILE
Try       python -m sft_keras.run --recipe=bert_regression --smoke    (synthetic, random weights)
Override  --set=data.columns.text=review --set=data.columns.label=stars
          --set=backbone.preset=hf:FOLDER
Sources   Devlin et al. 2019, arXiv:1810.04805
"""

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.tasks import TextRegression

recipe = Recipe(
    task=TextRegression(sequence_length=128, pooling="mean", dropout=0.1),
    data=Data(source="csv:texts.csv", batch_size=32),
    backbone=Backbone(preset="hub:bert_base_en_uncased"),
    stages=(
        Stage(name="head", epochs=10, learning_rate=1e-3, patience=2),
        Stage(
            name="top",
            epochs=4,
            learning_rate=1e-4,
            schedule="linear",
            warmup=0.1,
            weight_decay=0.01,
            unfreeze=4,
        ),
    ),
    seed=0,
)
