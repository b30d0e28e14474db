"""Fixtures for the demo page."""

import pytest


@pytest.fixture(autouse=True, scope="package")
def uploads(tmp_path_factory):
    """A folder for Gradio's uploads. Gradio reads the variable on every upload."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        yield
