"""What a TPU would be given is traced by TensorFlow's own strategy for TPUs, with none there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("tpu_tracing.py")
TRAINING, VALIDATION = "Steps._train_step", "Steps._test_step"


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan",
    [
        pytest.param("averaging", marks=pytest.mark.nightly),
        pytest.param("batch_norm", marks=pytest.mark.nightly),
        "tokens",
    ],
)
def test_every_program_is_traced_for_tpus_with_known_shapes(plan, tiny_preset, tmp_path):
    command = [sys.executable, str(PROGRAM), plan, str(tmp_path), tiny_preset]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    programs = json.loads(ran.stdout.splitlines()[-1])
    kinds = [each["program"] for each in programs]
    assert kinds.count(TRAINING) == kinds.count(VALIDATION) == 2
    assert len(programs) == 6 + (plan != "batch_norm")  # the pass over the frozen blocks
    for each in programs:
        assert each["TPUReplicateMetadata"] == 1 and not each["unknown"], each
        if each["program"] == TRAINING:
            # The loss, what is asked for and the norm; gradients stay where they are.
            assert each["TPUReplicatedOutput"] == 3 and each["CrossReplicaSum"] >= 4
    if plan == "batch_norm":
        head, top = (each for each in programs if each["program"] == TRAINING)
        assert top["CrossReplicaSum"] > head["CrossReplicaSum"] + 6
