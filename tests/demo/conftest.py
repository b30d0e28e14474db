"""Of the page to try a model."""

import pytest


@pytest.fixture(autouse=True, scope="package")
def uploads(tmp_path_factory):
    """Where Gradio keeps what is uploaded; it reads the variable each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        yield
