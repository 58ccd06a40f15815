"""A role that serves and owns nothing, with the rights that the documentation has for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import psycopg
from psycopg.rows import TupleRow

SERVING: Final = "serving"
_DOCUMENT: Final = Path(__file__).parents[3] / "docs/how-to/postgresql.md"


def make(admin: psycopg.Connection[TupleRow]) -> None:
    """Make the role, without any rights; it would be told of errors alone."""
    admin.execute(f"DROP ROLE IF EXISTS {SERVING}")
    admin.execute(f"CREATE ROLE {SERVING} LOGIN")
    admin.execute(f"ALTER ROLE {SERVING} SET client_min_messages = error")


def named(url: str) -> str:
    """The same URL for that role."""
    return url.replace("user=postgres", f"user={SERVING}").replace("//postgres@", f"//{SERVING}@")


def grants() -> list[str]:
    """The statements of the documentation, for that role."""
    [block] = re.findall("```sql\n(GRANT USAGE ON SCHEMA.*?)```", _DOCUMENT.read_text(), re.DOTALL)
    found = [" ".join(each.split()) for each in block.split(";") if each.strip()]
    return [each.removesuffix("TO pullstatus") + f"TO {SERVING}" for each in found]
