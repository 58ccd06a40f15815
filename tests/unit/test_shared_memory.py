"""Memory that processes share."""

import os
import resource

import pytest

from pullstatus.shared_memory import make_shared


def test_memory_is_empty_and_as_large_as_asked() -> None:
    descriptor = make_shared("test", 1000)
    try:
        assert os.pread(descriptor, 2000, 0) == bytes(1000)
    finally:
        os.close(descriptor)


def test_a_limit_of_files_is_said_with_what_to_change() -> None:
    """It holds for memory, too; all that the system says is that a file is too large."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone
    resource.setrlimit(resource.RLIMIT_FSIZE, (999, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large; see `ulimit -f`"):
            make_shared("test", 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - names alone
