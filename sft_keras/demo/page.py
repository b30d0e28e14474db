"""The page: input fields for the model's arguments, and a view of its prediction."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr

from sft_keras.demo.answer import field_label, predict_fields
from sft_keras.demo.header import About
from sft_keras.demo.security import SameOriginPolicy, read_upload, restrict_to_uploads
from sft_keras.demo.views import VIEWS, LineView, View
from sft_keras.inference.exported_model import ExportedModel
from sft_keras.serving.limits import Limits
from sft_keras.tasks.predictions import Prediction
from sft_keras.tasks.signatures import is_binary

_MULTILINE = ("texts", "contexts")
_EXAMPLES = {
    ("texts",): ["Ada Lovelace came to London in the spring."],
    ("texts", "text_pairs"): ["The train leaves at nine.", "It leaves in the morning."],
    ("questions", "contexts"): [
        "Who wrote the letter?",
        "Ada wrote the letter in the morning, and Charles read it at night.",
    ],
}
_QUEUE_SIZE = 64  # requests; further ones are rejected
_KEEP_SECONDS = 3600  # how long an uploaded image stays on disk
_IMAGE_HEIGHT = 400
_FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Arial", "sans-serif"]
_STYLE = Path(__file__).with_name("page.css")


def build_page(model: ExportedModel, about: About, limits: Limits) -> gr.Blocks:
    """Build the page, without serving it.

    Args:
      model: The exported model.
      about: The description of its run, for the header.
      limits: The limits on inputs.
    """
    view = VIEWS.get(model.config.display, LineView)()
    is_image = is_binary(model.arguments[0])

    def answer(*fields: Any) -> list[Any]:
        values = [read_upload(field) if is_image else field for field in fields]
        if values == [None]:  # the image was removed
            return [*(None for _ in outputs), ""]
        prediction = predict_fields(model, values, limits)
        return _updates(prediction, view, values[-1], len(outputs))

    title = f"{about.name} \N{EN DASH} try it"
    cleanup = (_KEEP_SECONDS, _KEEP_SECONDS)  # the interval, and the age of deleted files
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=cleanup) as page:
        gr.HTML(_header(about))
        with gr.Row():
            with gr.Column():
                fields: list[Any] = [_field(name) for name in model.arguments]
                button: Any = None
                if not is_image:
                    button = gr.Button("Predict", variant="primary", elem_id="ask")
            with gr.Column():
                outputs = view.components()
                note = gr.HTML(elem_id="note")
        if not is_image:
            example = model.config.example or _EXAMPLES.get(model.arguments)
            if example:
                gr.Examples(
                    [list(example)],
                    fields,
                    label="Example",
                    cache_examples=False,
                    elem_id="example",
                )
        triggers = [fields[0].change] if is_image else [button.click, fields[0].submit]
        # Without Gradio's preprocessing: the model decodes the original bytes, as `predict` does.
        gr.on(
            triggers,
            answer,
            fields,
            [*outputs, note],
            preprocess=False,
            show_progress="minimal",
            api_visibility="private",
        )
    page.queue(max_size=_QUEUE_SIZE)
    restrict_to_uploads(page)
    return page


def application(page: gr.Blocks, max_upload_mb: int) -> Any:
    """Return the page as an ASGI application that loads nothing from other hosts."""
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        app,
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
    return SameOriginPolicy(app)


def _field(name: str) -> gr.components.Component:
    if is_binary(name):
        return gr.Image(
            elem_id="picture",
            label=field_label(name),
            sources=["upload", "clipboard"],
            height=_IMAGE_HEIGHT,
            buttons=[],
        )
    return gr.Textbox(label=field_label(name), lines=5 if name in _MULTILINE else 1, max_lines=20)


def _updates(prediction: Prediction, view: View, text: Any, count: int) -> list[Any]:
    """Return the new values of the output components and of the note below them."""
    if prediction.error is not None:
        note = f'<p class="refused" role="alert">{html.escape(prediction.error)}</p>'
        return [*(None for _ in range(count)), note]
    remark = html.escape(view.remark(prediction))
    return [*view.values(prediction, text), f"<p>{remark}</p>"]


def _header(about: About) -> str:
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in about.lines)
    return f"<h1>{html.escape(about.name)}</h1>{lines}"
