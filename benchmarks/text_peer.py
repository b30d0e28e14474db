"""The Hugging Face Trainer side of `texts.py`. Independent of this package.

    python text_peer.py SPLITS.json SETTINGS_AS_JSON

Dynamic padding, linear decay with warm-up, weight decay 0.01, best epoch by validation loss: like
the Trainer's own examples and the other sides.
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
    """A map-style dataset of tokens and labels."""

    def __init__(self, tokens, labels):
        self.tokens, self.labels = tokens, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        inputs = {name: values[index] for name, values in self.tokens.items()}
        return {**inputs, "labels": self.labels[index]}


def encode_reviews(tokenizer, part, names, length):
    """Return tokenized texts with their class indices."""
    texts, labels = part
    tokens = tokenizer(texts, truncation=True, max_length=length)
    return Examples(dict(tokens), [names.index(label) for label in labels])


def encode_entities(tokenizer, part, names, length):
    """Return tokenized words; the first subword of each word carries its tag."""
    sentences, tags = part
    tokens = tokenizer(
        [list(words) for words in sentences],
        is_split_into_words=True,
        truncation=True,
        max_length=length,
    )
    labels = []
    for row, row_tags in enumerate(tags):
        words = tokens.word_ids(row)
        labels.append(
            [
                IGNORED if word is None or word == previous else names.index(row_tags[word])
                for previous, word in zip([None, *words], words)
            ]
        )
    return Examples(dict(tokens), labels)


def accuracy(outputs, part, examples, names):
    """Return the accuracy."""
    return float((outputs.argmax(axis=-1) == np.array(examples.labels)).mean())


def entity_f1(outputs, part, examples, names):
    """Return the entity F1; truncated words count as predicted to be outside of entities."""
    from seqeval.metrics import f1_score

    predictions = []
    for row, (labels, tags) in enumerate(zip(examples.labels, part[1])):
        positions = [position for position, label in enumerate(labels) if label != IGNORED]
        predicted = [names[outputs[row, position].argmax()] for position in positions]
        predictions.append(predicted + ["O"] * (len(tags) - len(predicted)))
    return float(f1_score([list(tags) for tags in part[1]], predictions))


KINDS = {
    "reviews": (
        encode_reviews,
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        accuracy,
    ),
    "entities": (
        encode_entities,
        AutoModelForTokenClassification,
        DataCollatorForTokenClassification,
        entity_f1,
    ),
}


def main(splits_file, settings_json):
    """Train, and print the seconds and the scores as JSON."""
    settings = json.loads(settings_json)
    splits = json.loads(Path(splits_file).read_text(encoding="utf-8"))
    encode, model_class, collator, score = KINDS[settings["case"]]
    flat = [label for _, labels in splits.values() for label in labels]
    if settings["case"] == "entities":
        flat = [tag for tags in flat for tag in tags]
    names = sorted(set(flat))
    set_seed(settings["seed"])
    start = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(settings["weights"])
    parts = {
        name: encode(tokenizer, part, names, settings["length"]) for name, part in splits.items()
    }
    model = model_class.from_pretrained(
        settings["weights"], num_labels=len(names), dtype=torch.float32
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                folder,
                num_train_epochs=settings["epochs"],
                learning_rate=settings["learning_rate"],
                per_device_train_batch_size=settings["batch_size"],
                per_device_eval_batch_size=settings["batch_size"],
                warmup_steps=0.1,  # below 1: a fraction of all steps
                weight_decay=0.01,
                eval_strategy="epoch",
                save_strategy="epoch",
                load_best_model_at_end=True,
                seed=settings["seed"],
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=parts["train"],
            eval_dataset=parts["validation"],
            data_collator=collator(tokenizer),
        )
        trainer.train()
        seconds = time.perf_counter() - start
        scores = {
            name: score(trainer.predict(parts[name]).predictions, splits[name], parts[name], names)
            for name in ("validation", "test")
        }
    print(json.dumps({"seconds": seconds, **scores}))


if __name__ == "__main__":
    main(*sys.argv[1:])
