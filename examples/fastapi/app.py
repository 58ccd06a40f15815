"""A web application that takes its delivery statuses while it serves: `uvicorn app:app`.

The key of the page that is asked for is in the application's database. One transaction stores the
page and changes the key, so a process that is killed anywhere asks for the same page again. Of two
processes that did the same at once, one changes the key, and the other one stores nothing.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException

import pullstatus

TABLES = """
CREATE TABLE IF NOT EXISTS page_key (one INTEGER PRIMARY KEY CHECK (one = 1), key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS status (sid TEXT, mobile TEXT, delivered INTEGER, received_at TEXT);
CREATE INDEX IF NOT EXISTS status_sid ON status (sid);
"""
PAUSE_S = 1.0

log = logging.getLogger("uvicorn.error")
database = sqlite3.connect("app.db", timeout=30)
database.executescript(TABLES)
with database:
    database.execute("INSERT OR IGNORE INTO page_key VALUES (1, ?)", [secrets.token_hex(16)])


def store(key: str, page: pullstatus.Page[pullstatus.DeliveryStatus]) -> None:
    """Store a page and change the key that it came with, both or none."""
    with database:
        renewed = (secrets.token_hex(16), key)
        if database.execute("UPDATE page_key SET key = ? WHERE key = ?", renewed).rowcount:
            rows = [(s.sid, s.mobile, s.delivered, s.received_at.isoformat()) for s in page]
            database.executemany("INSERT INTO status VALUES (?, ?, ?, ?)", rows)


async def consume() -> None:
    """Take pages for ever."""
    url, sdkappid = os.environ["PULLSTATUS_URL"], int(os.environ["PULLSTATUS_SDKAPPID"])
    appkey = os.environ["PULLSTATUS_APPKEY"]
    async with pullstatus.AsyncClient(url, sdkappid, appkey, keyed=True) as client:
        while True:
            (key,) = database.execute("SELECT key FROM page_key").fetchone()
            try:
                page = await client.pull(pullstatus.Kind.DELIVERY_STATUS, key=key)
            except pullstatus.ClientError as error:
                log.warning("asking again: %s", error)
                await asyncio.sleep(error.retry_after_s or PAUSE_S)
                continue
            if page:
                store(key, page)
            else:
                await asyncio.sleep(PAUSE_S)  # the key waits for its page


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Consume as long as the application runs."""
    consuming = asyncio.create_task(consume())
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
