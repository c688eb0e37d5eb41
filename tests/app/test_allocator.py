"""That large tensors are made of memory that was there before."""

import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MEASURE = """
import resource, sys
if sys.argv[1] == "kept":
    from app.allocator import keep_freed_memory
    assert keep_freed_memory()
import torch
def faults():
    torch.ones(2**24)  # 64 MiB: more than glibc ever keeps by itself
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        a, b, c = (torch.ones(2**24) for _ in range(3))
        del a, b, c
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", MEASURE, how], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the settings")
def test_tensors_freed_and_made_again_fault_no_pages() -> None:
    pages = 3 * 64 * 2**20 // resource.getpagesize()  # of the three tensors
    assert faults("kept") < pages
    assert faults("by default") > 5 * pages
