"""A periodic task that takes delivery statuses: `celery -A tasks worker --beat`.

It pulls under a reader's name: the server keeps a page in this reader's hand until it is told that
the page was done with. One transaction stores the page and its name, so a page that comes once
more, after a kill or to a second worker, is stored once: no lock is needed, nor any
promise of the broker's.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

from celery import Celery

import pullstatus

TABLES = """
CREATE TABLE IF NOT EXISTS page (pull_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS status (sid TEXT, mobile TEXT, delivered INTEGER, received_at TEXT);
"""
EVERY_S = 2.0

app = Celery("tasks", broker=os.environ.get("CELERY_BROKER_URL", "filesystem://"))
if app.conf.broker_url == "filesystem://":  # to try it without a broker: messages in a folder
    for folder in ("messages", "control"):
        Path(folder).mkdir(exist_ok=True)
    app.conf.broker_transport_options = {
        "data_folder_in": "messages",
        "data_folder_out": "messages",
        "control_folder": "control",
    }
app.conf.beat_schedule = {
    # A run that nobody came to take is of no use when the next one is due.
    "statuses": {
        "task": "tasks.take_statuses",
        "schedule": EVERY_S,
        "options": {"expires": EVERY_S},
    }
}


@app.task(ignore_result=True)
def take_statuses() -> None:
    """Take pages until the mailbox is empty. If it fails, the next run is handed the same page."""
    url, sdkappid = os.environ["PULLSTATUS_URL"], int(os.environ["PULLSTATUS_SDKAPPID"])
    appkey = os.environ["PULLSTATUS_APPKEY"]
    with (
        contextlib.closing(sqlite3.connect("app.db", timeout=30)) as database,
        pullstatus.Client(url, sdkappid, appkey, reader="worker") as client,
    ):
        database.execute("PRAGMA synchronous = EXTRA")  # a commit stays when power is cut behind it
        database.executescript(TABLES)
        for batch in client.delivery_statuses(follow=False):
            with batch, database:  # committed first, then acknowledged
                named = database.execute("INSERT OR IGNORE INTO page VALUES (?)", [batch.pull_id])
                if named.rowcount:
                    rows = [
                        (s.sid, s.mobile, s.delivered, s.received_at and s.received_at.isoformat())
                        for s in batch
                    ]
                    database.executemany("INSERT INTO status VALUES (?, ?, ?, ?)", rows)
