"""Nodes whose wall clock is wrong.

    with WrongClocks() as cluster:
        cluster.shift(node, 86_400)     # it was started anew, and is a day ahead

No library is between a node and the kernel that could be told lies, and no namespace has a wall
clock of its own; but one has a time since boot of its own, which may be any. So nodes run a copy of
their program in which the one instruction that names the clock of `time.now` names that one.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Final

from tools.nats import PROGRAM, Cluster, Node

BOOT: Final = 7
# mov edi, CLOCK_REALTIME; lea rsi, [rsp+16]: as the runtime of Go reads the wall clock on x86-64
READS_WALL: Final = bytes.fromhex("bf00000000 488d742410")
READS_BOOT: Final = READS_WALL[:1] + bytes([BOOT]) + READS_WALL[2:]
OFF_S: Final = 60.0  # that a node, or who asks it, may be late


class WrongClocks(Cluster):
    """A cluster whose nodes have clocks of their own."""

    def shift(self, node: Node, seconds: float) -> None:
        """Start a node again whose clock is so much ahead; it says itself that it is.

        Raises:
            AssertionError: it does not: clocks cannot be shifted so on this machine.
        """
        node.kill()
        node.program = self.folder / "program"
        if not node.program.exists():
            content = PROGRAM.read_bytes()
            assert content.count(READS_WALL) == 1, "the program reads clocks otherwise"
            node.program.write_bytes(content.replace(READS_WALL, READS_BOOT))
            node.program.chmod(0o755)
        boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        node.within = (
            "unshare",
            "--time",
            "--boottime",
            str(round(time.time() - boot_s + seconds)),
            "--",
        )
        node.start()
        self.settle()
        said = datetime.fromisoformat(node.look("/varz")["now"])
        assert abs(said.timestamp() - time.time() - seconds) < OFF_S, said
