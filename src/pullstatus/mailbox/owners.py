"""Who has which number now, so that nobody is handed what was somebody else's."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pullstatus.apps.values import (
    APPLICATIONS,
    Application,
    application_in,
    application_setting,
)
from pullstatus.errors import InvalidSetting
from pullstatus.records import Kind
from pullstatus.store import Mailbox, Setting, Store, While

Range = tuple[Mailbox, int, int]  # mailbox, first seq, count


async def read_owners(store: Store, sdkappid: int | None = None) -> Owners:
    """The owners as they are now, of all numbers or of one."""
    if sdkappid is not None:
        return await read_owner(store, sdkappid)
    return Owners([setting async for setting in store.settings(prefix=APPLICATIONS)])


async def read_owner(store: Store, sdkappid: int) -> Owners:
    """The owner of one number as it is now; of the others nothing is known."""
    setting = await store.setting(application_setting(sdkappid))
    return Owners([] if setting is None else [setting])


class Owners:
    """Of every number, as of one moment."""

    def __init__(self, settings: Sequence[Setting]) -> None:
        self._settings = {setting.name: setting for setting in settings}

    def of(self, sdkappid: int) -> Application | None:
        """Who has the number now; None: nobody has."""
        return application_in(self._settings.get(application_setting(sdkappid)))

    def former(self, mailbox: Mailbox) -> range:
        """Where entries stand that were a former owner's; all of them if there is no owner now.

        A number that never was an application's has no former owner.
        """
        if application_setting(mailbox.sdkappid) not in self._settings:
            return range(1)
        owner = self.of(mailbox.sdkappid)
        if owner is None:
            return range(1, sys.maxsize)
        return range(1, owner.former[Kind(mailbox.kind)] + 1 if owner.former else 1)

    def check(self, found: Range) -> None:
        """Refuse a range that was a former owner's."""
        mailbox, first_seq, _ = found
        if first_seq in self.former(mailbox):
            raise InvalidSetting(
                f"records of {mailbox} from {first_seq} on were a former owner's of that number,"
                " and are not handed to another"
            )

    def while_set(self, sdkappid: int) -> While:
        """Holds as long as this is so."""
        name = application_setting(sdkappid)
        setting = self._settings.get(name)
        return While(name, 0 if setting is None else setting.revision)
