"""Text regression with BERT, a number per text: train a new head, then the top layers.

Expected  depends on your texts and targets
Run       python -m sft_keras.run --recipe=bert_regression --set=data.source=csv:FILE
Try       python -m sft_keras.run --recipe=bert_regression --smoke    (synthetic, random weights)
Override  --set=data.columns.text=review --set=data.columns.label=stars
          --set=backbone.preset=hf:FOLDER
Sources   Devlin et al. 2019, arXiv:1810.04805
"""

import dataclasses

from sft_keras import load_recipe
from sft_keras.tasks import TextRegression

recipe = dataclasses.replace(
    load_recipe("bert_sentiment").recipe,  # the same data, backbone and stages
    task=TextRegression(sequence_length=128, pooling="mean", dropout=0.1),
)
