"""Nodes whose disks may be full.

    with SmallDisks() as cluster:
        cluster.fill(node)
        cluster.empty(node)         # there is room again, and it was started anew

Each has a file system of its own, in memory, and a file there that takes what is to be taken. By
its settings a node may store more than there is: else it would refuse in time, by itself.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final, Self

from tests.faults.networks import run
from tools.nats import Cluster, Node

SIZE: Final = 512 << 20
PAGE: Final = bytes(4096)
NO_SPACE: Final = "no space left on device"


class SmallDisks(Cluster):
    """A cluster on such disks."""

    def __init__(self) -> None:
        super().__init__(jetstream={"max_file_store": str(2 * SIZE)})
        self._said: dict[str, int] = {}  # how much a node had said before its disk was full
        self._stack = contextlib.ExitStack()

    def fill(self, node: Node) -> None:
        """Leave nothing of its disk: the next thing that it writes fails somewhere."""
        self._said[node.name] = len(node.log())
        with (node.folder / "data" / "ballast").open("ab", buffering=0) as file:
            found = os.statvfs(file.fileno())
            with contextlib.suppress(OSError):  # the node takes some of it at the same time
                os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize)
            file.seek(0, os.SEEK_END)
            with contextlib.suppress(OSError):
                while file.write(PAGE):
                    pass

    def has_met_it(self, node: Node) -> bool:
        """Whether something of it was not written since then."""
        return NO_SPACE in node.log()[self._said[node.name] :]

    def empty(self, node: Node) -> None:
        """Give it room again, and start it anew, as it asks for."""
        (node.folder / "data" / "ballast").unlink()
        node.kill()
        node.start()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for node in self.nodes:
                place = node.folder / "data"
                place.mkdir(parents=True)
                run("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(place))
                stack.callback(run, "umount", "--lazy", str(place))
            super().__enter__()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        self._stack.close()
        super().__exit__(*error)
