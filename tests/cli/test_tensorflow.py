"""TensorFlow's notes are left out of what a command says, and nothing else is."""

import subprocess
import sys

NOISE = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    "I0000 00:00:1795393039.560879   15736 cudart_stub.cc:31] Could not find cuda drivers\n"
)
PROGRAM = """
import os
from sft_keras.cli.tensorflow import _without_noise
with _without_noise():
    os.write(2, {noise!r}.encode())
    os.write(2, b"The TensorFlow library was compiled to use AVX instructions\\n")
    {end}
os.write(2, {noise!r}.encode())
"""


def said(end):
    program = PROGRAM.format(noise=NOISE, end=end)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return ran.stderr


def test_only_the_notes_are_left_out_and_only_in_the_block():
    kept = "The TensorFlow library was compiled to use AVX instructions\n"
    assert said("pass") == kept + NOISE


def test_the_last_words_of_a_process_that_is_killed_are_not_held_back():
    assert "AVX instructions" in said("os.kill(os.getpid(), 9)")
