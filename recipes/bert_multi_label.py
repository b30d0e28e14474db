"""Multi-label text classification with BERT: train a new head, then the top layers.

Expected  depends on your texts and labels
Run       python -m sft_keras.run --recipe=bert_multi_label --set=data.source=csv:FILE
Try       python -m sft_keras.run --recipe=bert_multi_label --smoke    (synthetic, random weights)
Override  "--set=task.label_separator=|" --set=task.threshold=0.4 --set=backbone.preset=hf:FOLDER
Sources   Devlin et al. 2019, arXiv:1810.04805
"""

import dataclasses

from sft_keras import load_recipe
from sft_keras.tasks import TextMultiLabel

recipe = dataclasses.replace(
    load_recipe("bert_sentiment").recipe,  # the same data, backbone and stages
    task=TextMultiLabel(sequence_length=128, pooling="mean", dropout=0.1),
)
