"""Extractive question answering with BERT: train a new head, then the top layers.

Expected  depends on your questions and passages
Run       python -m sft_keras.run --recipe=bert_squad --set=data.source=squad:FILE_OR_FOLDER
Try       python -m sft_keras.run --recipe=bert_squad --smoke    (synthetic, random weights)
Override  --set=task.no_answer_threshold=0.5 --set=backbone.preset=hf:FOLDER
          --set=stages.top.unfreeze=all    (for backbones of fewer than 8 blocks, such as MiniLM)
Sources   Devlin et al. 2019, arXiv:1810.04805; Rajpurkar et al. 2016, arXiv:1606.05250
"""

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.tasks import QuestionAnswering

recipe = Recipe(
    task=QuestionAnswering(sequence_length=384, doc_stride=128, dropout=0.1),
    data=Data(source="squad:squad", batch_size=16),
    backbone=Backbone(preset="hub:bert_base_en_uncased"),
    stages=(
        Stage(name="head", epochs=1, learning_rate=1e-3),
        # Finding the answer depends on the layers; a head on frozen ones learns little.
        Stage(
            name="top",
            epochs=2,
            learning_rate=5e-5,
            schedule="linear",
            warmup=0.1,
            weight_decay=0.01,
            unfreeze=8,  # of 13: the embeddings and 12 layers
        ),
    ),
    seed=0,
)
