"""The table of all that is there, figures, and what has happened."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tools.cluster_demo.scenes import Scene
from tools.cluster_demo.servers import Server
from tools.cluster_demo.traffic import TICK_S, Tally

RATE_S = 3.0


class Screen:
    """See above."""

    def __init__(self, scene: Scene, servers: list[Server], tally: Tally) -> None:
        self._scene = scene
        self._servers = servers
        self._tally = tally
        self._began = time.monotonic()
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=int(RATE_S / TICK_S))

    def tell(self, text: str) -> None:
        """Put something on the list of what has happened."""
        self._tally.happened.append((time.monotonic() - self._began, text))

    def __rich__(self) -> Group:
        """All of it, as it is now."""
        tally = self._tally
        now = time.monotonic(), len(tally.accepted), tally.seen.total()
        self._samples.append(now)
        span_s = max(TICK_S, now[0] - self._samples[0][0])
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in ("", "is", "at", "answers"):
            table.add_column(column, justify="right" if column == "answers" else "left")
        for server in self._servers:
            table.add_row(f"server {server.name}", "serves", server.address, f"{server.answers:,}")
        for row in self._scene.rows():
            table.add_row(*row, "")
        minutes, seconds = divmod(int(now[0] - self._began), 60)
        figures = (
            f"{minutes:02}:{seconds:02}"
            f"  accepted {now[1]:,} ({(now[1] - self._samples[0][1]) / span_s:.0f}/s)"
            f"  handed out {now[2]:,} ({(now[2] - self._samples[0][2]) / span_s:.0f}/s)"
            f"  asked again {tally.unsure:,}"
        )
        lines = [Text(f"  {at_s:5.1f} s  {text}", no_wrap=True) for at_s, text in tally.happened]
        return Group(table, Text(""), Text(figures, "bold", no_wrap=True), *lines)


async def shown(console: Console, screen: Screen, work: Awaitable[None]) -> None:
    """Do it, with the screen as it is meanwhile; where no line can be rewritten, as it is then."""
    task = asyncio.ensure_future(work)
    if console.is_terminal:
        with Live(screen, console=console, auto_refresh=False) as live:
            while not task.done():
                live.update(screen, refresh=True)
                await asyncio.wait({task}, timeout=TICK_S)
            live.update(screen, refresh=True)
    await task
    if not console.is_terminal:
        console.print(screen)
