"""How the page shows the answers of each kind of model."""

from __future__ import annotations

import abc
import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

from sft_keras.tasks.predictions import Entity, Prediction
from sft_keras.tasks.question_answering.predictions import AnswerPrediction

ANSWER = "answer"
"""What the first component is called on the page."""
_MOST_BARS = 5
_NO_ANSWER = "(no answer)"


class View(abc.ABC):
    """What shows an answer: components, and what they hold for a prediction."""

    @abc.abstractmethod
    def components(self) -> list[gr.components.Component]:
        """Returns them new, within the page that is being built."""

    @abc.abstractmethod
    def values(self, found: Prediction, text: str) -> list[Any]:
        """Returns what each of them shows.

        Args:
          found: An answer, not an error.
          text: The text in which it stands, of models that point at places.
        """

    def remark(self, found: Prediction) -> str:
        """Returns a sentence to stand below, or ""."""
        return ""


class _OneClass(View):
    def components(self) -> list[gr.components.Component]:
        return [gr.Label(elem_id=ANSWER, label="Answer", num_top_classes=_MOST_BARS, buttons=[])]

    def values(self, found: Prediction, text: str) -> list[Any]:
        return [found.probabilities]

    def remark(self, found: Prediction) -> str:
        count = len(found.probabilities)
        return f"The {_MOST_BARS} most probable of {count} classes." if count > _MOST_BARS else ""


class _AnyClasses(View):
    def components(self) -> list[gr.components.Component]:
        return [gr.Label(elem_id=ANSWER, label="Labels that apply", show_heading=False, buttons=[])]

    def values(self, found: Prediction, text: str) -> list[Any]:
        return [{name: found.probabilities[name] for name in found.labels}]

    def remark(self, found: Prediction) -> str:
        every = found.probabilities
        if found.labels:
            return f"{len(found.labels)} of {len(every)} labels."
        nearest = max(every, key=every.get)
        return f"No label applies. The most probable is {nearest}, with {every[nearest]:.1%}."


class _Number(View):
    def components(self) -> list[gr.components.Component]:
        return [gr.Label(elem_id=ANSWER, label="Number", buttons=[])]

    def values(self, found: Prediction, text: str) -> list[Any]:
        return [f"{found.value:.6g}"]


class _Entities(View):
    def components(self) -> list[gr.components.Component]:
        text = gr.HighlightedText(elem_id=ANSWER, label="Entities", buttons=[])
        return [text, gr.HTML(elem_id="entities")]

    def values(self, found: Prediction, text: str) -> list[Any]:
        places = [(each.start, each.end, each.label) for each in found.entities]
        return [marked(text, places), _table(found.entities)]

    def remark(self, found: Prediction) -> str:
        return "" if found.entities else "No entity was found."


class _Answer(View):
    def components(self) -> list[gr.components.Component]:
        return [
            gr.Label(elem_id=ANSWER, label="Answer", buttons=[]),
            gr.HighlightedText(label="Where it stands", buttons=[], show_inline_category=False),
        ]

    def values(self, found: AnswerPrediction, text: str) -> list[Any]:
        places = [(found.start, found.end, "answer")] if found.label else []
        answer = {found.label or _NO_ANSWER: found.probabilities[found.label]}
        return [answer, marked(text, places)]

    def remark(self, found: Prediction) -> str:
        return "" if found.label else "The passage does not say, as the model reads it."


VIEWS = {
    "answer": _Answer,
    "text_index": _Entities,
    "label": _OneClass,
    "chosen": _AnyClasses,
    "value": _Number,
}
"""By the kind of answer, see `sft_keras.inference.predictions.prediction_kind`."""


def marked(text: str, places: Sequence[tuple[int, int, str]]) -> list[tuple[str, str | None]]:
    """Returns a text in pieces, each with its label or None.

    Args:
      text: The text.
      places: (start, end, label) in characters, in order, without overlaps.
    """
    pieces, done = [], 0
    for start, end, label in places:
        pieces += [(text[done:start], None), (text[start:end], label)]
        done = end
    pieces.append((text[done:], None))
    return [piece for piece in pieces if piece[0]]


def _table(entities: Sequence[Entity]) -> str:
    """Returns the entities as HTML, whatever signs are in their texts and types."""
    rows = [
        f"<tr><td>{html.escape(each.text)}</td><td>{html.escape(each.label)}</td>"
        f"<td>{each.probability:.1%}</td></tr>"
        for each in entities
    ]
    head = "<tr><th>Entity</th><th>Type</th><th>Probability</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>" if rows else ""
