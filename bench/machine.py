"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec

from pullstatus.mounts import mount_of, parse_mounts

IN_MEMORY = ("tmpfs", "ramfs")


class Machine(msgspec.Struct, frozen=True):
    """The parts of a machine that decide over figures like these."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    file_system: str
    python: str

    def __str__(self) -> str:
        return (
            f"{self.cores} cores of {self.cpu}, {self.memory_gib:.0f} GiB, "
            f"Linux {self.kernel}, {self.file_system}, Python {self.python}"
        )


def describe(folder: Path) -> Machine:
    """This machine, with the file system that holds `folder`."""
    return Machine(
        cpu=cpu_model(Path("/proc/cpuinfo").read_text(encoding="utf-8")),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        kernel=platform.release(),
        file_system=file_system_of(folder),
        python=platform.python_version(),
    )


def file_system_of(folder: Path) -> str:
    """The type of the file system that holds `folder`."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    mount = mount_of(folder.resolve(), parse_mounts(mounts))
    return mount.kind if mount else ""


def cpu_model(cpuinfo: str) -> str:
    """The processor's name by the text of /proc/cpuinfo; ARM machines have none there."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.machine()
