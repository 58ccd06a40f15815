"""A periodic task that takes delivery statuses: `celery -A tasks worker --beat`.

The key of the page that is asked for is in the application's database. One transaction stores the
page and changes the key, so a worker that is killed anywhere leaves a key that brings the same page
again. Of two workers that ask at once, one changes the key, and the other one stores nothing: no
lock is needed, nor any promise of the broker's.
"""

import contextlib
import os
import secrets
import sqlite3
from pathlib import Path

from celery import Celery

import pullstatus

TABLES = """
CREATE TABLE IF NOT EXISTS page_key (one INTEGER PRIMARY KEY CHECK (one = 1), key TEXT NOT NULL);
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
    """Take pages until the mailbox is empty. If it fails, the next run asks for the same page."""
    url, sdkappid = os.environ["PULLSTATUS_URL"], int(os.environ["PULLSTATUS_SDKAPPID"])
    appkey = os.environ["PULLSTATUS_APPKEY"]
    with (
        contextlib.closing(sqlite3.connect("app.db", timeout=30)) as database,
        pullstatus.Client(url, sdkappid, appkey, keyed=True) as client,
    ):
        database.executescript(TABLES)
        with database:
            first = (secrets.token_hex(16),)
            database.execute("INSERT INTO page_key VALUES (1, ?) ON CONFLICT DO NOTHING", first)
        while True:
            (key,) = database.execute("SELECT key FROM page_key").fetchone()
            page = client.pull(pullstatus.Kind.DELIVERY_STATUS, key=key)
            if not page:
                return  # the key waits for its page
            with database:
                renewed = (secrets.token_hex(16), key)
                done = database.execute("UPDATE page_key SET key = ? WHERE key = ?", renewed)
                if done.rowcount:
                    rows = [(s.sid, s.mobile, s.delivered, s.received_at.isoformat()) for s in page]
                    database.executemany("INSERT INTO status VALUES (?, ?, ?, ?)", rows)
