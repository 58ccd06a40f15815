"""What operations rest on: whether settings are still at the revision that a caller has read."""

from __future__ import annotations

from pullstatus.errors import SettingChanged
from pullstatus.store.values import While
from pullstatus.store.verbs.tables import Tables


def refuses(tables: Tables, *conditions: While | None) -> SettingChanged | None:
    """The refusal of an operation that carries these; None if all hold."""
    for condition in conditions:
        if condition is not None and tables.revision(condition.name) != condition.revision:
            return SettingChanged("a setting that this rests on was changed; try again")
    return None
