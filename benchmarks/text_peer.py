"""The side of `texts.py` that is Hugging Face's Trainer. Knows nothing of this package.

    python text_peer.py SPLITS.json SETTINGS_AS_JSON

Dynamic padding, linear decay with warm-up, weight decay 0.01, the best epoch by validation
loss: as its examples have it, and as the other sides do.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

IGNORED = -100


class Examples(torch.utils.data.Dataset):
    """Tokens with labels, by position."""

    def __init__(self, tokens, labels):
        self.tokens, self.labels = tokens, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        own = {name: values[index] for name, values in self.tokens.items()}
        return {**own, "labels": self.labels[index]}


def reviews(tokenizer, part, names, length):
    """Returns texts with a label each."""
    texts, labels = part
    tokens = tokenizer(texts, truncation=True, max_length=length)
    return Examples(dict(tokens), [names.index(label) for label in labels])


def entities(tokenizer, part, names, length):
    """Returns words with tags, of which the first piece of each word carries its own."""
    sentences, tags = part
    tokens = tokenizer(
        [list(words) for words in sentences],
        is_split_into_words=True,
        truncation=True,
        max_length=length,
    )
    labels = []
    for row, own in enumerate(tags):
        words = tokens.word_ids(row)
        labels.append(
            [
                IGNORED if word is None or word == before else names.index(own[word])
                for before, word in zip([None, *words], words)
            ]
        )
    return Examples(dict(tokens), labels)


def accuracy(outputs, part, examples, names):
    """Returns the share of texts whose label is right."""
    return float((outputs.argmax(axis=-1) == np.array(examples.labels)).mean())


def entity_f1(outputs, part, examples, names):
    """Returns F1 over entities; words that were cut off have none."""
    from seqeval.metrics import f1_score

    guessed = []
    for row, (labels, own) in enumerate(zip(examples.labels, part[1])):
        places = [place for place, label in enumerate(labels) if label != IGNORED]
        found = [names[outputs[row, place].argmax()] for place in places]
        guessed.append(found + ["O"] * (len(own) - len(found)))
    return float(f1_score([list(own) for own in part[1]], guessed))


KINDS = {
    "reviews": (reviews, AutoModelForSequenceClassification, DataCollatorWithPadding, accuracy),
    "entities": (
        entities,
        AutoModelForTokenClassification,
        DataCollatorForTokenClassification,
        entity_f1,
    ),
}


def main(splits_file, settings):
    """Prints the seconds of the work and the figures, as JSON."""
    given = json.loads(settings)
    splits = json.loads(Path(splits_file).read_text(encoding="utf-8"))
    read, model_class, collator, figure = KINDS[given["case"]]
    flat = [label for _, labels in splits.values() for label in labels]
    if given["case"] == "entities":
        flat = [tag for own in flat for tag in own]
    names = sorted(set(flat))
    set_seed(given["seed"])
    began = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(given["weights"])
    parts = {name: read(tokenizer, part, names, given["length"]) for name, part in splits.items()}
    model = model_class.from_pretrained(
        given["weights"], num_labels=len(names), dtype=torch.float32
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                folder,
                num_train_epochs=given["epochs"],
                learning_rate=given["learning_rate"],
                per_device_train_batch_size=given["batch_size"],
                per_device_eval_batch_size=given["batch_size"],
                warmup_steps=0.1,  # below 1: a share of all
                weight_decay=0.01,
                eval_strategy="epoch",
                save_strategy="epoch",
                load_best_model_at_end=True,
                seed=given["seed"],
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=parts["train"],
            eval_dataset=parts["validation"],
            data_collator=collator(tokenizer),
        )
        trainer.train()
        seconds = time.perf_counter() - began
        found = {
            name: figure(trainer.predict(parts[name]).predictions, splits[name], parts[name], names)
            for name in ("validation", "test")
        }
    print(json.dumps({"seconds": seconds, **found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
