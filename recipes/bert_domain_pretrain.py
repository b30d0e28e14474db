"""Masked language modelling: continue BERT's pretraining on unlabelled texts of your domain.

Expected  a lower loss on held-out texts, and RUN/preset, a backbone for other recipes
Run       python -m sft_keras.run --recipe=bert_domain_pretrain --set=data.source=texts:FILE
Try       python -m sft_keras.run --recipe=bert_domain_pretrain --smoke    (random weights)
Override  --set=data.source=csv:FILE --set=backbone.preset=hf:FOLDER --set=stages.all.epochs=1
Sources   Devlin et al. 2019, arXiv:1810.04805; Gururangan et al. 2020, arXiv:2004.10964
"""

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.tasks import MaskedLM

recipe = Recipe(
    task=MaskedLM(sequence_length=128),
    data=Data(source="texts:texts.txt", batch_size=32),
    backbone=Backbone(preset="hub:bert_base_en_uncased"),
    stages=(
        # The head starts untrained; its gradients would damage the layers below.
        Stage(name="head", epochs=1, learning_rate=1e-3),
        Stage(
            name="all",
            epochs=3,
            learning_rate=1e-4,
            schedule="linear",
            warmup=0.1,
            weight_decay=0.01,
            clip_norm=1.0,
            unfreeze="all",
        ),
    ),
    seed=0,
)
