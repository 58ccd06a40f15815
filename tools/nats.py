"""NATS nodes of one's own, for tests, benches and the demo: a cluster made, broken, and gone.

    with Cluster() as cluster:                     # three nodes that sync each write, healthy
        open_store(cluster.url("mailboxes"))
        leader = cluster.leader("mailboxes_0")
        leader.kill()
        cluster.settle()                           # the others have agreed on new leaders
        leader.start()

What nodes have on disk is in memory where there is room for it, since no test takes the power away.
They listen on loopback. The program is that of a Python package. Whoever started them may be
killed: a process of its own then ends them, and removes their folder.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from tools.postgresql import free_port, own_folder

PROGRAM: Final = Path(sysconfig.get_path("scripts")) / "nats-server"
PATIENCE_S: Final = 240.0  # an election takes 4 to 9 s, on a machine with nothing else to do
POLL_S: Final = 0.1  # each look asks every node for all that it has
LOOK_S: Final = 2.0  # a node that is paused takes connections, and answers nothing
PORTS_TRIES: Final = 5
PORT_TAKEN: Final = "address already in use"
# The shell says which process it is before it becomes the node, so that the heir knows of it.
START: Final = 'echo $$ > "$0/pid"; exec "$@"'
HEIR: Final = """
read -r _
for file in "$0"/*/pid; do
    pid=$(cat "$file" 2>/dev/null) && kill -KILL "$pid" 2>/dev/null
    while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
done
rm -rf "$0"
"""

T = TypeVar("T")


class Node:
    """One server of a cluster.

    Attributes:
        name: by which the others know it.
        folder: all that it has on disk.
        host: where it listens.
        port: for clients, the same in all its lives.
        monitor: of its pages about itself.
        route: for the others.
        program: what it runs.
    """

    def __init__(
        self, name: str, folder: Path, host: str = "127.0.0.1", within: Sequence[str] = ()
    ) -> None:
        """Nothing runs yet.

        Args:
            within: what a command begins with that is to be where this is.
        """
        self.name = name
        self.folder = folder
        self.host = host
        self.within = within
        self.program = PROGRAM
        self.port = self.monitor = self.route = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "log"
        self._logged = 0

    def start(self) -> None:
        """Run it; it need not have joined the others on return."""
        assert self._process is None
        shell = ["/bin/sh", "-c", START, str(self.folder)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*shell, *self.within, str(self.program), "-c", str(self.folder / "nats.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, paused or not; on return it is gone."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """End it in order, and run it again."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Have it go no further; connections stay. On return it stands still."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        while not stands_still(self._process.pid):
            time.sleep(POLL_S)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def ended(self) -> bool:
        """Whether it was started, and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def look(self, page: str) -> Any:  # noqa: ANN401 any JSON
        """What one of its pages says.

        Raises:
            OSError: it does not answer.
        """
        connection = http.client.HTTPConnection(self.host, self.monitor, timeout=LOOK_S)
        with contextlib.closing(connection):
            try:
                connection.request("GET", page)
                return json.loads(connection.getresponse().read())
            except http.client.HTTPException as error:
                raise ConnectionError(page) from error

    def log(self) -> str:
        """What it has said so far, in all its lives."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def move(self) -> None:
        """Have it listen elsewhere from its next start on."""
        self.port, self.monitor, self.route = free_port(), free_port(), free_port()
        self._logged = len(self.log())

    @property
    def lacks_a_port(self) -> bool:
        """Whether somebody else has one of those where it listens now."""
        return PORT_TAKEN in self.log()[self._logged :]

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(number)
        process.wait(PATIENCE_S)
        (self.folder / "pid").unlink(missing_ok=True)  # its number may be another's by now


class Cluster:
    """Nodes that run from the begin of a `with` block to its end.

    Args:
        size: how many; one alone is no cluster.
        place: where their folder is made; None: see above.
        server: settings of each that differ, as they stand in its file.
        jetstream: of its streams.

    Attributes:
        folder: all that they have on disk.
        nodes: in the order of their names.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        place: Path | None = None,
        server: Mapping[str, str] | None = None,
        jetstream: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = own_folder("nats-", place)
        self.nodes = [Node(f"n{number}", self.folder / f"n{number}") for number in range(size)]
        self._server = dict(server or {})
        self._jetstream = {"sync_interval": "always"} | dict(jetstream or {})
        self._heir: subprocess.Popen[bytes] | None = None

    def url(self, name: str, words: str = "") -> str:
        """The address of a store on them; `words` are further ones behind the `?`."""
        hosts = ",".join(f"{node.host}:{node.port}" for node in self.nodes)
        monitors = ",".join(f"{node.host}:{node.monitor}" for node in self.nodes)
        return f"jetstream://{hosts}/{name}?monitor={monitors}{words and '&' + words}"

    def leader(self, stream: str) -> Node:
        """Who leads a stream, once those that run agree on it."""
        return self._wait(lambda: (self._leaders() or {}).get(stream))

    def leaders(self) -> dict[str, str]:
        """Who leads each stream, by their names, once those that run agree on it."""
        return {stream: node.name for stream, node in self._wait(self._leaders).items()}

    def settle(self) -> None:
        """Wait until all nodes that run are healthy, and agree on one of them for each stream."""
        self._wait(self._leaders)

    def heal(self) -> None:
        """Have all nodes run, whatever was done to them, and settle."""
        for node in self.nodes:
            if node.runs:
                node.resume()
            else:
                node.start()
        self.settle()

    def configure(
        self, node: Node, *, server: Mapping[str, str] | None = None, **jetstream: str
    ) -> None:
        """Change settings of one node, for its next start."""
        there = self._server | dict(server or {})
        routes = ", ".join(f'"nats://{other.host}:{other.route}"' for other in self.nodes)
        inner = {"store_dir": f'"{node.folder / "data"}"'} | self._jetstream | jetstream
        lines = [
            f"server_name: {node.name}",
            f"listen: {node.host}:{node.port}",
            f"http: {node.host}:{node.monitor}",
            *(f"{name}: {value}" for name, value in there.items()),
            "jetstream {",
            *(f"  {name}: {value}" for name, value in inner.items()),
            "}",
        ]
        if len(self.nodes) > 1:
            lines.append(
                f"cluster {{ name: test, listen: {node.host}:{node.route}, routes: [{routes}] }}"
            )
        (node.folder / "nats.conf").write_text("\n".join([*lines, ""]))

    def __enter__(self) -> Self:
        # In a session of its own, since it must not get the signals that we get.
        self._heir = subprocess.Popen(
            ["/bin/sh", "-c", HEIR, self.folder],
            stdin=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
        try:
            for _ in range(PORTS_TRIES):
                self._begin()
                try:
                    self.settle()
                except AssertionError:
                    if not any(node.lacks_a_port for node in self.nodes):
                        raise
                    self._end()
                else:
                    return self
            raise RuntimeError("no ports are free")
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_error: object) -> None:
        self._end()
        if self._heir is not None:
            self._heir.communicate()  # it removes the folder

    def _begin(self) -> None:
        for node in self.nodes:
            node.move()
        for node in self.nodes:
            node.folder.mkdir(exist_ok=True)
            self.configure(node)
            node.start()

    def _end(self) -> None:
        for node in self.nodes:
            if node._process is not None:  # noqa: SLF001 it is one of ours
                node.kill()

    def _wait(self, look: Callable[[], T | None]) -> T:
        """Look again and again until there is something to see."""
        due_s = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError, KeyError):
                if (found := look()) is not None:
                    return found
            logs = [node.log()[-2000:] for node in self.nodes]
            stuck = any(node.ended or node.lacks_a_port for node in self.nodes)
            assert not stuck, "\n".join(logs)
            assert time.monotonic() < due_s, "\n".join(logs)
            time.sleep(POLL_S)

    def _leaders(self) -> dict[str, Node] | None:
        """Who leads each stream; None while not all that go on are well, or of one opinion.

        Raises:
            OSError, KeyError: no more is known yet.
        """
        going = {node.name: node for node in self.nodes if node.runs and not stands_still(node.pid)}
        seen = []
        for node in going.values():
            if node.look("/healthz")["status"] != "ok":
                return None
            told = node.look("/jsz?accounts=true&streams=true")
            streams = [
                stream
                for account in told.get("account_details") or ()
                for stream in account.get("stream_detail") or ()
            ]
            alone = {"leader": node.name}  # who is no cluster does not speak of one
            seen.append({each["name"]: each.get("cluster", alone)["leader"] for each in streams})
        if not seen or any(one != seen[0] for one in seen):
            return None
        return {stream: going[leader] for stream, leader in seen[0].items()}


def stands_still(pid: int) -> bool:
    """Whether a process was stopped by a signal, with all its threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    states = [task.joinpath("stat").read_text().rpartition(")")[2].split()[0] for task in tasks]
    return all(state == "T" for state in states)
