"""Two servers over a cluster that is killed, a part of it or all; and the table goes on.

    gateway      --batches-->  pullstatus serve A, B  ---->  nodes of JetStream, or databases of
    application  <--pages----   whichever answers            PostgreSQL: each commit is on several
                                                             before it is answered

`make cluster-demo`, or `make cluster-demo ENGINE=postgresql`. Nodes and databases are made for this
run, of the programs that are installed, and removed at its end. The gateway repeats a batch under
its key until somebody has accepted it, and the application a pull until it has the page, each of
whichever server answers: as they do anywhere. What the application has seen is then held against
what was accepted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import sys
import tempfile
from collections.abc import Awaitable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pullstatus.emulator.scenario import APPKEY, SDKAPPID
from tools.cluster_demo.scenes import SCENES, Scene
from tools.cluster_demo.screen import Screen, shown
from tools.cluster_demo.servers import Ended, Server, run, serving
from tools.cluster_demo.traffic import Tally, Traffic

DRAIN_S = 240.0


async def play(
    scene: Scene,
    servers: list[Server],
    token: str,
    screen: Screen,
    tally: Tally,
    options: argparse.Namespace,
) -> None:
    """Traffic, what happens to the cluster, and traffic again; then all that waits is taken."""
    traffic = Traffic(servers, token, tally)
    feeding = asyncio.create_task(traffic.feed(options.rate))
    pulling = asyncio.create_task(traffic.pull())

    async def watch(seconds: float) -> None:
        await _beside(asyncio.sleep(seconds), feeding, pulling)

    screen.tell("each commit is on two disks or more before it is answered")
    await watch(options.calm)
    await _beside(scene.play(screen.tell, watch, options.blind), feeding, pulling)
    before = len(tally.accepted)
    await watch(options.calm)
    screen.tell(f"{len(tally.accepted) - before:,} records more were accepted since")
    traffic.stop()
    await asyncio.wait_for(asyncio.gather(feeding, pulling), DRAIN_S)
    screen.tell("all that was accepted has been pulled")


async def _beside(work: Awaitable[object], *others: asyncio.Task[None]) -> None:
    """Do it; what others raise meanwhile is raised here."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task, *others}, return_when=asyncio.FIRST_COMPLETED)
    for other in others:
        if other.done():
            other.result()
    await task


def judged(tally: Tally, *, sound: bool) -> list[str]:
    """What is wrong; nothing, if every promise was kept."""
    lost = len(tally.accepted - tally.seen.keys())
    twice = sum(count > 1 for count in tally.seen.values())
    never = len(tally.seen.keys() - tally.accepted)
    return [
        f"{count:,} records {text}"
        for count, text in ((lost, "lost"), (twice, "handed out twice"), (never, "of nobody"))
        if count
    ] + ([] if sound else ["the audit is not content"])


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make cluster-demo", description=__doc__.split("\n")[0])
    parser.add_argument("--engine", choices=SCENES, default=next(iter(SCENES)))
    parser.add_argument("--rate", type=int, default=400, help="records a second (400)")
    parser.add_argument("--calm", type=float, default=12, help="seconds before and behind (12)")
    parser.add_argument("--blind", type=float, default=3, help="seconds with a part or none (3)")
    options = parser.parse_args()
    console = Console(highlight=False)
    try:
        return demonstrate(console, options)
    except Ended as error:
        console.print(Text(str(error), "red"))
        return 1
    except KeyboardInterrupt:
        return 130


def demonstrate(console: Console, options: argparse.Namespace) -> int:
    """Have all there is, let it happen, and judge."""
    tally = Tally()
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="pullstatus-cluster-"))
        )
        console.print("Making a cluster ...")
        scene = stack.enter_context(SCENES[options.engine]())
        store = scene.store
        key = folder / "master.key"
        key.write_text(secrets.token_hex(32) + "\n")
        key.chmod(0o600)
        console.print(f"{scene.about}; the store of both servers is\n  {store}\n", soft_wrap=True)
        run(folder, store, "store", "init", *scene.init)
        run(folder, store, "app", "create", str(SDKAPPID), "--appkey", APPKEY)
        token = json.loads(run(folder, store, "token", "create", "gateway"))["token"]
        servers = [stack.enter_context(serving(name, folder, store)) for name in ("A", "B")]
        screen = Screen(scene, servers, tally)
        asyncio.run(shown(console, screen, play(scene, servers, token, screen, tally, options)))
        audit = json.loads(run(folder, store, "audit", "--json"))
        wrong = judged(tally, sound=audit["sound"])
    console.print()
    if wrong:
        console.print(Text("; ".join(wrong), "red"))
        return 1
    told = (
        f"{len(tally.accepted):,} records accepted, each handed out once, none lost; audit sound."
    )
    console.print(Text(told, "bold green"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
