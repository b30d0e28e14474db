"""Whatever bytes a file holds, it is read or refused with a message; nothing else happens."""

from __future__ import annotations

import pytest
from fuzzing import READERS
from hypothesis import HealthCheck, Phase, given, settings

_FAST, _SLOW = 40, 2000  # files; the nightly run tries the many


def _try_all(name: str, examples: int) -> None:
    reader = READERS[name]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(content=reader.content)
    def read(content: bytes) -> None:
        assert reader.read(content) in (True, False)

    read()


@pytest.mark.parametrize("name", READERS)
def test_any_file_is_read_or_refused(name):
    _try_all(name, _FAST)


@pytest.mark.nightly
@pytest.mark.parametrize("name", READERS)
def test_many_more_files_are_read_or_refused(name):
    _try_all(name, _SLOW)
