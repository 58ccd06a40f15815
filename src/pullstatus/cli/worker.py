"""What a worker's process runs: `pullstatus serve --workers` starts it."""

from __future__ import annotations

import socket
import sys

import uvloop

from pullstatus import child
from pullstatus.cli.serve import end, shorten_waits
from pullstatus.cli.statuses import RESTART
from pullstatus.errors import PullstatusError
from pullstatus.server.workers.worker import Worker


def main() -> None:
    """Answer requests for the server that has started this process."""
    number, parent, *version = sys.argv[1:]
    child.begin(int(parent))
    worker = Worker(socket.socket(fileno=int(number)), *version or ("an older one",))
    worker.on_overdue = lambda: end(worker)
    try:
        uvloop.run(worker.run(on_ready=lambda _address: shorten_waits()))
    except PullstatusError:  # it has told the server
        sys.exit(1)
    if worker.failure is not None:
        sys.exit(RESTART)
