"""URLs as they may be shown: one may hold a name and a password, or a key in its query."""

from __future__ import annotations


def bare(url: str) -> str:
    """A URL without the name and password that it may hold, and without its query."""
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"
