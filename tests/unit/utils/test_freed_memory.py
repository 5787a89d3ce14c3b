"""Freed memory is used again: few new pages for tensors as large as those before."""

import subprocess
import sys

import pytest

#: Page faults of 40 tensors of 40 MB, one after the other, when the first of them are gone.
FAULTS = """
import resource
import torch
from mlff_distiller.utils.freed_memory import keep_freed_memory
{keep}
torch.set_num_threads(1)
for _ in range(3):
    torch.ones(10_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_large_tensors_get_the_pages_of_those_before():
    def faults(keep: str) -> int:
        program = FAULTS.format(keep=keep)
        return int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)

    # A few are pushed to new places by what else is allocated.
    assert 3 * faults("keep_freed_memory()") < faults("")
