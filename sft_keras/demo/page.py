"""The page: fields for what the model takes, and what shows its answer."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr

from sft_keras.demo.answer import ask
from sft_keras.demo.header import About
from sft_keras.demo.security import OwnHost, keep_to_uploads, read_upload
from sft_keras.demo.views import VIEWS, View
from sft_keras.inference.exported_model import ExportedModel
from sft_keras.inference.predictions import prediction_kind
from sft_keras.serving.limits import Limits
from sft_keras.tasks.predictions import Prediction

_LABELS = {
    "image_bytes": "Picture",
    "texts": "Text",
    "text_pairs": "Second text",
    "questions": "Question",
    "contexts": "Passage",
}
_LONG = ("texts", "contexts")
_EXAMPLES = {
    ("texts",): ["Ada Lovelace came to London in the spring."],
    ("texts", "text_pairs"): ["The train leaves at nine.", "It leaves in the morning."],
    ("questions", "contexts"): [
        "Who wrote the letter?",
        "Ada wrote the letter in the morning, and Charles read it at night.",
    ],
}
_GAP_EXAMPLE = ["The train leaves at [MASK] in the morning."]
_WAITING = 64  # that wait for an answer at a time; further ones are told to come again
_KEPT = 3600  # seconds that a picture stays on disk
_PICTURE_HEIGHT = 400
_FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Arial", "sans-serif"]
_STYLE = Path(__file__).with_name("page.css")


def build_page(model: ExportedModel, about: About, limits: Limits) -> gr.Blocks:
    """Returns the page, which is not served yet."""
    view = VIEWS[prediction_kind(model.outputs)]()
    is_picture = model.arguments == ("image_bytes",)

    def answer(*fields: Any) -> list[Any]:
        given = [read_upload(each) if is_picture else each for each in fields]
        if given == [None]:  # the picture was taken away again
            return [*(None for _ in shown), ""]
        return _updates(ask(model, given, limits), view, given[-1], len(shown))

    title = f"{about.name} \N{EN DASH} try it"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(_KEPT, _KEPT)) as page:
        gr.HTML(_head(about))
        with gr.Row():
            with gr.Column():
                fields = [_field(name) for name in model.arguments]
                button = None if is_picture else gr.Button("Ask", variant="primary", elem_id="ask")
            with gr.Column():
                shown = view.components()
                note = gr.HTML(elem_id="note")
        if not is_picture:
            example = _GAP_EXAMPLE if about.fills_gaps else _EXAMPLES[model.arguments]
            gr.Examples(
                [example], fields, label="An example", cache_examples=False, elem_id="example"
            )
        asked = [fields[0].change] if is_picture else [button.click, fields[0].submit]
        # Not preprocessed: the model reads the very bytes of the file, as `predict` does.
        gr.on(
            asked,
            answer,
            fields,
            [*shown, note],
            preprocess=False,
            show_progress="minimal",
            api_visibility="private",
        )
    page.queue(max_size=_WAITING)
    keep_to_uploads(page)
    return page


def application(page: gr.Blocks, max_upload_mb: int) -> Any:
    """Returns the page as an ASGI application, which loads nothing from elsewhere."""
    own = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        own,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=max_upload_mb * 2**20,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        theme=gr.themes.Default(primary_hue="blue", font=_FONT, font_mono=_FONT),
        css=_STYLE.read_text(encoding="utf-8"),
    )
    return OwnHost(own)


def _field(name: str) -> gr.components.Component:
    if name == "image_bytes":
        return gr.Image(
            elem_id="picture",
            label=_LABELS[name],
            sources=["upload", "clipboard"],
            height=_PICTURE_HEIGHT,
            buttons=[],
        )
    return gr.Textbox(label=_LABELS[name], lines=5 if name in _LONG else 1, max_lines=20)


def _updates(found: Prediction, view: View, text: Any, count: int) -> list[Any]:
    if found.error is not None:
        note = f'<p class="refused" role="alert">{html.escape(found.error)}</p>'
        return [*(None for _ in range(count)), note]
    return [*view.values(found, text), f"<p>{html.escape(view.remark(found))}</p>"]


def _head(about: About) -> str:
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in about.lines)
    return f"<h1>{html.escape(about.name)}</h1>{lines}"
