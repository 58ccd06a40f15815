"""The embedded engine: one SQLite file, one writer thread with group commit, separate readers."""

from pullstatus.store.sqlite.engine import SqliteStore

__all__ = ["SqliteStore"]
