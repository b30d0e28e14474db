"""Named entity recognition (NER) with BERT: train a new head, then the top layers.

Expected  depends on your sentences and tags
Run       python -m sft_keras.run --recipe=bert_ner --set=data.source=conll:PATH
Try       python -m sft_keras.run --recipe=bert_ner --smoke    (synthetic, random weights)
Override  --set=backbone.preset=hf:FOLDER --set=task.sequence_length=256
Sources   Devlin et al. 2019, arXiv:1810.04805, section 5.3
"""

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.tasks import TokenClassification

recipe = Recipe(
    task=TokenClassification(sequence_length=128, dropout=0.1),
    data=Data(source="conll:sentences", batch_size=32),
    backbone=Backbone(preset="hub:bert_base_en"),
    stages=(
        Stage(name="head", epochs=5, learning_rate=1e-3),
        Stage(
            name="top",
            epochs=5,
            learning_rate=1e-4,
            schedule="linear",
            warmup=0.1,
            weight_decay=0.01,
            unfreeze=6,
        ),
    ),
    seed=0,
)
