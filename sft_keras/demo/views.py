"""Views: how the page displays each kind of prediction."""

from __future__ import annotations

import abc
import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import gradio as gr

from sft_keras.tasks.predictions import Entity, Prediction
from sft_keras.tasks.question_answering.predictions import AnswerPrediction

ANSWER = "answer"
"""The element id of the first component."""
_MAX_BARS = 5
_NO_ANSWER = "(no answer)"


class View(abc.ABC):
    """Displays one kind of prediction: creates components, and fills them."""

    @abc.abstractmethod
    def components(self) -> list[gr.components.Component]:
        """Create the components, within the page that is being built."""

    @abc.abstractmethod
    def values(self, prediction: Prediction, text: str) -> list[Any]:
        """Return the value of each component.

        Args:
          prediction: A prediction without an error.
          text: The text that spans of the prediction refer to.
        """

    def remark(self, prediction: Prediction) -> str:
        """Return a sentence to display below, or ""."""
        return ""


class _OneClass(View):
    def components(self) -> list[gr.components.Component]:
        return [gr.Label(elem_id=ANSWER, label="Answer", num_top_classes=_MAX_BARS, buttons=[])]

    def values(self, prediction: Prediction, text: str) -> list[Any]:
        return [prediction.probabilities]

    def remark(self, prediction: Prediction) -> str:
        count = len(prediction.probabilities)
        return f"The {_MAX_BARS} most probable of {count} classes." if count > _MAX_BARS else ""


class _AnyClasses(View):
    def components(self) -> list[gr.components.Component]:
        return [gr.Label(elem_id=ANSWER, label="Labels that apply", show_heading=False, buttons=[])]

    def values(self, prediction: Prediction, text: str) -> list[Any]:
        return [{name: prediction.probabilities[name] for name in prediction.labels or ()}]

    def remark(self, prediction: Prediction) -> str:
        probabilities = prediction.probabilities
        if prediction.labels:
            return f"{len(prediction.labels)} of {len(probabilities)} labels."
        best = max(probabilities, key=probabilities.__getitem__)
        return f"No label applies. The most probable is {best}, with {probabilities[best]:.1%}."


class _Number(View):
    def components(self) -> list[gr.components.Component]:
        return [gr.Label(elem_id=ANSWER, label="Number", buttons=[])]

    def values(self, prediction: Prediction, text: str) -> list[Any]:
        return [f"{prediction.value:.6g}"]


class _Entities(View):
    def components(self) -> list[gr.components.Component]:
        text = gr.HighlightedText(elem_id=ANSWER, label="Entities", buttons=[])
        return [text, gr.HTML(elem_id="entities")]

    def values(self, prediction: Prediction, text: str) -> list[Any]:
        entities = prediction.entities or ()
        spans = [(entity.start, entity.end, entity.label) for entity in entities]
        return [split_spans(text, spans), _entity_table(entities)]

    def remark(self, prediction: Prediction) -> str:
        return "" if prediction.entities else "No entities found."


class _Answer(View):
    def components(self) -> list[gr.components.Component]:
        return [
            gr.Label(elem_id=ANSWER, label="Answer", buttons=[]),
            gr.HighlightedText(label="Location", buttons=[], show_inline_category=False),
        ]

    def values(self, prediction: Prediction, text: str) -> list[Any]:
        prediction = cast(AnswerPrediction, prediction)
        spans = [(prediction.start, prediction.end, "answer")] if prediction.label else []
        label = prediction.label or ""
        answer = {label or _NO_ANSWER: prediction.probabilities[label]}
        return [answer, split_spans(text, spans)]

    def remark(self, prediction: Prediction) -> str:
        return "" if prediction.label else "The model finds no answer in the passage."


class LineView(View):
    """Displays any prediction, as the command line does."""

    def components(self) -> list[gr.components.Component]:
        """Create one label."""
        return [gr.Label(elem_id=ANSWER, label="Prediction", buttons=[])]

    def values(self, prediction: Prediction, text: str) -> list[Any]:
        """Return the description of the prediction."""
        return [prediction.describe().strip()]


VIEWS: Mapping[str, Callable[[], View]] = {
    "answer": _Answer,
    "class_scores": _OneClass,
    "labels": _AnyClasses,
    "line": LineView,
    "marked_text": _Entities,
    "number": _Number,
}
"""Views by `TaskConfig.display`."""


def split_spans(text: str, spans: Sequence[tuple[int, int, str]]) -> list[tuple[str, str | None]]:
    """Split a text at labelled spans.

    Args:
      text: The text.
      spans: (start, end, label) in characters, in order and without overlaps.

    Returns:
      The non-empty pieces of the text in order, each with its label or None.
    """
    pieces: list[tuple[str, str | None]] = []
    position = 0
    for start, end, label in spans:
        pieces += [(text[position:start], None), (text[start:end], label)]
        position = end
    pieces.append((text[position:], None))
    return [piece for piece in pieces if piece[0]]


def _entity_table(entities: Sequence[Entity]) -> str:
    """Return the entities as an HTML table, with escaped texts and types."""
    rows = [
        f"<tr><td>{html.escape(entity.text)}</td><td>{html.escape(entity.label)}</td>"
        f"<td>{entity.probability:.1%}</td></tr>"
        for entity in entities
    ]
    head = "<tr><th>Entity</th><th>Type</th><th>Probability</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>" if rows else ""
