"""A next version of pullstatus, planted in this process: its stores have two formats more.

The first step adds a column to every table, and a table. The second removes the time of marks, by
which the version of this checkout tidies them, and the next one does not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from unittest import mock

from pullstatus.store.postgresql import marks, schema
from pullstatus.store.postgresql.schema import Step

ADDS = Step(
    """
DO $$
DECLARE named text;
BEGIN
    FOR named IN SELECT tablename FROM pg_tables WHERE schemaname = 'pullstatus' LOOP
        EXECUTE format('ALTER TABLE pullstatus.%I ADD COLUMN more int DEFAULT 7', named);
    END LOOP;
END $$;
CREATE TABLE pullstatus.novelty (id int PRIMARY KEY);
CREATE INDEX chunk_by_time ON pullstatus.chunk (accepted_ms);
"""
)
REMOVES = Step("ALTER TABLE pullstatus.mark DROP COLUMN at", removes=True)
_NOW, _LEAST = schema.FORMAT, schema.least_format()
OLD, ADDED, REMOVED = (_NOW, _LEAST), (_NOW + 1, _LEAST), (_NOW + 2, _NOW + 2)
"""Formats, each with the oldest that can still be worked with: before and behind these steps."""


def install() -> None:
    """Become the next version, for as long as this process lives."""
    for module, name, value in _differences():
        setattr(module, name, value)


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """The next version, until the block ends."""
    with contextlib.ExitStack() as stack:
        for module, name, value in _differences():
            stack.enter_context(mock.patch.object(module, name, value))
        yield


def _differences() -> list[tuple[ModuleType, str, object]]:
    return [
        (schema, "STEPS", (*schema.STEPS, ADDS, REMOVES)),
        (schema, "FORMAT", REMOVED[0]),
        (schema, "VERSION", "next"),
        (marks, "_TIDY", marks._TIDY.replace("AND at < now() - interval '10 minutes'", "")),
    ]
