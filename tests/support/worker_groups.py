"""Which tests run in the same worker: those of a file, and all that share a finished run.

xdist's own mark for this, `xdist_group`, works by changing node ids, which pytest 9.2 ignores.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

GROUPS = {
    "task-MaskedLM": ("masked_lm/test_masked_lm.py",),
    "task-QuestionAnswering": ("question_answering/test_question_answering.py",),
    "task-TextClassification": ("text_classification/test_single_label.py",),
    "task-TextMultiLabel": ("text_classification/test_multi_label.py",),
    "task-TextRegression": ("text_classification/test_regression.py",),
    "task-TokenClassification": ("token_classification/test_token_classification.py",),
    "image_run": (
        "tests/demo/",
        "notebook/test_fragments.py",
        "serving/test_rest.py",
        "serving/test_serve.py",
    ),
}
"""{group: parts of the paths of its files}; every other file is a group of its own."""
_CONTRACT = re.compile(r"test_contract\.py::\w+\[(\w+)\]")


def group_of(nodeid: str) -> str:
    """Return the group of a test.

    >>> group_of("tests/tasks/test_contract.py::test_x[MaskedLM]")
    'task-MaskedLM'
    >>> group_of("tests/core/test_network.py::test_y")
    'tests/core/test_network.py'
    """
    if match := _CONTRACT.search(nodeid):
        return f"task-{match[1]}"
    file = nodeid.partition("::")[0]
    for group, parts in GROUPS.items():
        if any(part in file for part in parts):
            return group
    return file


class GroupScheduling(LoadScopeScheduling):
    """Sends one group after the other to a worker that is free."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
