"""What operations rest on: whether settings are still at the revision that a caller has read.

Every append and pull asks, so revisions are remembered: one is read from the file when it is first
asked for, and forgotten when anybody may have written it.
"""

from __future__ import annotations

import apsw


class Conditions:
    """Revisions of settings, as the open transaction sees them."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._revisions: dict[str, int] = {}
        self._others_version = -1
        self._settled = True

    def begin(self) -> bool:
        """A transaction begins: forget what others, or one that failed, may have written.

        Returns:
            whether anybody may have.
        """
        version: int = self._connection.execute("PRAGMA data_version").get
        changed = version != self._others_version or not self._settled
        if changed:
            self._revisions.clear()
            self._others_version = version
        self._settled = False
        return changed

    def settle(self) -> None:
        """The transaction is durable."""
        self._settled = True

    def written(self, name: str) -> None:
        """The open transaction has written a setting."""
        self._revisions.pop(name, None)

    def revision(self, name: str) -> int:
        """The revision of a setting; 0: it was never written."""
        revision = self._revisions.get(name)
        if revision is None:
            found: int | None = self._connection.execute(
                "SELECT revision FROM setting WHERE name = ?", (name,)
            ).get
            revision = self._revisions[name] = found or 0
        return revision
