"""A web application that takes its delivery statuses while it serves: `uvicorn app:app`.

It pulls under a reader's name: the server keeps a page in this reader's hand until it is told that
the page was done with. One transaction stores the page and its name, so a page that comes once
more, after a kill or to a second worker, is stored once.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException

import pullstatus

TABLES = """
CREATE TABLE IF NOT EXISTS page (pull_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS status (sid TEXT, mobile TEXT, delivered INTEGER, received_at TEXT);
CREATE INDEX IF NOT EXISTS status_sid ON status (sid);
"""
PAUSE_S = 1.0

log = logging.getLogger("uvicorn.error")
database = sqlite3.connect("app.db", timeout=30)
database.execute("PRAGMA synchronous = EXTRA")  # a commit stays, whatever power is cut behind it
database.executescript(TABLES)


def store(batch: pullstatus.Batch[pullstatus.DeliveryStatus]) -> None:
    """Store a page and its name, both or none; nothing if they are there."""
    with database:
        is_new = database.execute("INSERT OR IGNORE INTO page VALUES (?)", [batch.pull_id]).rowcount
        if is_new:
            rows = [
                (s.sid, s.mobile, s.delivered, s.received_at and s.received_at.isoformat())
                for s in batch
            ]
            database.executemany("INSERT INTO status VALUES (?, ?, ?, ?)", rows)


async def consume(client: pullstatus.AsyncClient) -> None:
    """Take pages for ever."""
    while True:
        try:
            async for batch in client.delivery_statuses(wait_s=PAUSE_S):
                with batch:
                    store(batch)
        except Exception as error:  # noqa: BLE001 - a full disk, too: nobody else would start this again
            log.warning("asking again: %s", error)
            await asyncio.sleep(getattr(error, "retry_after_s", None) or PAUSE_S)


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Consume as long as the application runs; it does not start with settings that cannot be."""
    url, sdkappid = os.environ["PULLSTATUS_URL"], int(os.environ["PULLSTATUS_SDKAPPID"])
    appkey = os.environ["PULLSTATUS_APPKEY"]
    async with pullstatus.AsyncClient(url, sdkappid, appkey, reader="web") as client:
        consuming = asyncio.create_task(consume(client))
        yield
        consuming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await consuming


app = FastAPI(lifespan=lifespan)


@app.get("/statuses/{sid}")
async def status(sid: str) -> dict[str, object]:
    """What became of one SMS."""
    if not (row := database.execute("SELECT * FROM status WHERE sid = ?", [sid]).fetchone()):
        raise HTTPException(404, "no delivery status yet")
    return dict(zip(("sid", "mobile", "delivered", "received_at"), row, strict=True))
