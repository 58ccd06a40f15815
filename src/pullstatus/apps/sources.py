"""Sources that operators add to ours: how gateways speak that we do not know.

Each is a setting, which holds its text as it was given. None has the name of one of ours: what an
address means is the same on every server, and after every upgrade.
"""

from __future__ import annotations

from typing import Final

from pullstatus import limits
from pullstatus.apps.operator import Operator
from pullstatus.apps.values import ADVICE, SOURCES, as_set, told
from pullstatus.errors import AlreadyExists, InvalidSetting, SettingChanged, StoreCorrupt
from pullstatus.receipts.source import NAME, Source, builtin, read_source
from pullstatus.store import Change, Store

__all__ = ["add_source", "read_kept", "remove_source", "source_text", "sources"]

_NONE: Final = "no source that was added has this name; `pullstatus source list` shows them"


async def sources(store: Store) -> list[Source]:
    """Those that were added, by name."""
    found = [
        read_kept(setting.name, setting.value)
        async for setting in store.settings(prefix=SOURCES)
        if setting.value is not None
    ]
    return sorted(found, key=lambda source: source.name)


async def source_text(store: Store, name: str) -> str:
    """The text of one that was added, as it was given.

    Raises:
        InvalidSetting: none has that name.
    """
    return (await _kept(store, name)).decode()


async def add_source(store: Store, text: str, *, by: Operator, replace: bool = False) -> Source:
    """Have requests read by this source, too, from the next one on.

    Args:
        replace: one of its name may be there, which it takes the place of.

    Raises:
        InvalidSetting: it is none, has the name of one of ours, or there are too many.
        AlreadyExists: one of its name is there, and not to be replaced.
        SettingChanged: somebody changed it meanwhile.
    """
    source = read_source(text)
    if source.name in builtin():
        raise InvalidSetting(
            f"name: {source.name} is a source of pullstatus itself; choose another, such as"
            f" {source.name[:28]}-own"
        )
    setting = await store.setting(SOURCES + source.name)
    before = None if setting is None else setting.value
    if before is not None and not replace:
        raise AlreadyExists(f"a source named {source.name} exists; --replace takes its place")
    if before is None and len(await sources(store)) >= limits.SOURCES_MAX:
        raise InvalidSetting(f"there are at most {limits.SOURCES_MAX} sources; remove one first")
    act = by.act("source add", name=source.name)
    change = Change(SOURCES + source.name, text.encode(), before)
    if not await store.change(change, act=act, ticket=by.ticket()):
        raise SettingChanged("this source was changed meanwhile; try again")
    return source


async def remove_source(store: Store, name: str, *, by: Operator) -> None:
    """Have no request read by a source that was added, within a second.

    Raises:
        InvalidSetting: none has that name.
        SettingChanged: somebody changed it meanwhile.
    """
    change = Change(SOURCES + name, None, await _kept(store, name))
    act = by.act("source remove", name=name)
    if not await store.change(change, act=act, ticket=by.ticket()):
        raise SettingChanged("this source was changed meanwhile; try again")


def read_kept(name: str, value: bytes) -> Source:
    """A source from its setting.

    Raises:
        StoreCorrupt: it is not what was set.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise StoreCorrupt(f"the setting {told(name)} is not what was set; {ADVICE}") from None
    with as_set(name):
        source = read_source(text, new=False)
        if SOURCES + source.name != name:
            raise InvalidSetting("it has another name")
    return source


async def _kept(store: Store, name: str) -> bytes:
    setting = await store.setting(SOURCES + name) if NAME.fullmatch(name) else None
    if setting is None or setting.value is None:
        raise InvalidSetting(_NONE)
    return setting.value
