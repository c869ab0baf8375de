"""What is freed stays with the process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from robustpolicy.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    activations = [torch.ones(10_000_000) for _ in range(4)]  # 40 MB each: by default never kept
    return len(activations)
for _ in range(3):
    step()
before = faults()
step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_there_for_the_next_step():
    def faults(how):
        command = [sys.executable, "-c", PROGRAM, how]
        return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    assert faults("keep") < faults("leave") / 3
