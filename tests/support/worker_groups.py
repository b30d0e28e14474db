"""Which tests run in the same worker: those of a file, and all that share a finished run.

xdist's own mark for this, `xdist_group`, works by changing node ids, which pytest 9.2 ignores.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

GROUPS = {
    "task-MaskedLM": ("masked_lm/test_masked_lm.py",),
    "task-QuestionAnswering": ("question_answering/test_question_answering.py",),
    "task-TextClassification": ("text_classification/test_single_label.py",),
    "task-TextMultiLabel": ("text_classification/test_multi_label.py",),
    "task-TextRegression": ("text_classification/test_regression.py",),
    "task-TokenClassification": ("token_classification/test_token_classification.py",),
    "image_run": (
        "pipeline/test_finetune.py",
        "tests/demo/",
        "notebook/test_fragments.py",
        "serving/test_rest.py",
        "serving/test_serve.py",
    ),
}
"""{group: parts of the paths of its files}; every other file is a group of its own."""
LONGEST = (
    "image_run",
    "task-TextClassification",
    "tests/sweeps/test_sweeps.py",
    "tests/pipeline/test_resume.py",
    "tests/distributed/test_workers.py",
    "tests/data/test_service.py",
    "tests/runs/test_interrupt.py",
    "tests/export/test_export.py",
    "tests/export/test_text_export.py",
    "task-TokenClassification",
    "task-QuestionAnswering",
    "task-MaskedLM",
    "task-TextMultiLabel",
    "task-TextRegression",
    "task-ImageClassification",
)
"""Groups that take longest, first to start: last, one would keep one worker busy alone."""
_TASK_TEST = re.compile(r"::\w+\[([A-Z]\w+)\]")


def group_of(nodeid: str) -> str:
    """Return the group of a test.

    >>> group_of("tests/tasks/test_contract.py::test_x[MaskedLM]")
    'task-MaskedLM'
    >>> group_of("tests/core/test_network.py::test_y")
    'tests/core/test_network.py'
    """
    if (match := _TASK_TEST.search(nodeid)) and f"task-{match[1]}" in LONGEST:
        return f"task-{match[1]}"
    file = nodeid.partition("::")[0]
    for group, parts in GROUPS.items():
        if any(part in file for part in parts):
            return group
    return file


class GroupScheduling(LoadScopeScheduling):
    """Sends one group after the other to a worker that is free, the longest first."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        ranks = {group: rank for rank, group in enumerate(LONGEST)}
        group = min(self.workqueue, key=lambda name: ranks.get(name, len(ranks)))
        self.workqueue.move_to_end(group, last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
