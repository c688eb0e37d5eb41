"""That large tensors are made of memory that was there before."""

import platform
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from app.process.allocator import keep_freed_memory

ROOT = Path(__file__).resolve().parents[3]

MEASURE = """
import resource, sys
if sys.argv[1] == "kept":
    from app.process.allocator import keep_freed_memory
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


OLD = platform.libc_ver()[0] != "glibc" or tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 35)


@pytest.mark.skipif(OLD, reason="only glibc from 2.35 on keeps tensors this large")
def test_tensors_freed_and_made_again_fault_no_pages() -> None:
    pages = 3 * 64 * 2**20 // resource.getpagesize()  # of the three tensors
    assert faults("kept") < pages
    assert faults("by default") > 5 * pages


class OldLibrary:
    """A glibc that stands for those before 2.35: it refuses large thresholds, and not every one says so.

    Args:
        version: What it says of itself.
        honest: Whether it tells of a threshold that it has refused.

    Attributes:
        threshold: From how many bytes on memory is mapped.
        grows: Whether the threshold follows what is freed.
    """

    def __init__(self, version: bytes, honest: bool) -> None:
        self.version, self.honest, self.threshold, self.grows = version, honest, 128 * 2**10, True

    def mallopt(self, name: int, value: int) -> int:
        """As glibc's do_set_mmap_threshold, do_set_trim_threshold and do_set_top_pad."""
        old = tuple(map(int, self.version.split(b"."))) < (2, 35)
        if name == -3 and old and value > 32 * 2**20:
            return 0 if self.honest else 1
        self.grows = False
        if name == -3:
            self.threshold = value
        return 1

    @property
    def gnu_get_libc_version(self) -> Any:
        return mock.Mock(return_value=self.version)


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("version", [b"2.17", b"2.28", b"2.31", b"2.34", b"2.35", b"2.36", b"2.100", b"3.0"])
def test_an_older_glibc_maps_no_more_than_it_does_by_itself(version: bytes, honest: bool) -> None:
    library = OldLibrary(version, honest)
    with mock.patch("ctypes.CDLL", return_value=library):
        assert keep_freed_memory()
    assert library.threshold >= 32 * 2**20  # to which the default one grows
    assert (library.threshold == 2**31 - 1) is (tuple(map(int, version.split(b"."))) >= (2, 35))


def test_a_glibc_that_refuses_the_threshold_is_left_as_it_is() -> None:
    library = OldLibrary(b"2.35", honest=True)
    library.mallopt = mock.Mock(return_value=0)  # type: ignore[method-assign]
    with mock.patch("ctypes.CDLL", return_value=library):
        assert not keep_freed_memory()
    library.mallopt.assert_called_once()


@pytest.mark.parametrize("missing", ["mallopt", "gnu_get_libc_version"])
def test_another_library_is_left_as_it_is(missing: str) -> None:
    """The C library of Alpine has no mallopt, and that of macOS neither."""
    names = {"mallopt": mock.Mock(return_value=1), "gnu_get_libc_version": mock.Mock(return_value=b"2.36")}
    del names[missing]
    with mock.patch("ctypes.CDLL", return_value=SimpleNamespace(**names)):
        assert not keep_freed_memory()
    assert not any(function.called for function in names.values())
