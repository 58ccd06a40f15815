"""Every text that a store is given comes back as it was: a NUL is a character like any other.

A store is given a text in every place at once: to begin one takes far longer than to ask it.
"""

from __future__ import annotations

import msgspec
import pytest

from pullstatus.errors import KeyReused, ReplayRefused, SettingChanged
from pullstatus.records import Kind
from pullstatus.store import Act, Change, Mailbox, Noted, Once, Reader, RepeatKey, Store, While
from tests.store.build import (
    NOW_MS,
    acts_of,
    append,
    data_of,
    fingerprinted,
    journal_of,
    page,
    pull,
    records,
    redeliver,
    settings_of,
    ticket,
)

pytestmark = pytest.mark.anyio

TEXTS = {
    "a NUL": "a\0b",
    "nothing but a NUL": "\0",
    "empty": "",
    "a backslash and quotes": "\\000 \\x00 ' \" $$ %s %",
    "beyond two bytes": "\U0001f642 \U0010ffff",
    "no characters": "\uffff\ufffe\ufeff\x7f\x1b[0m\r\n\t",
    "composed and not": "\u00e9 e\u0301",
    "to the left": "\u202eabc\u0627",
    "long": "\u00e4" * 500,
}


async def in_a_pull(store: Store, mailbox: Mailbox, text: str) -> None:
    entries = records(2)
    await store.append(append(mailbox, entries))
    asked = msgspec.structs.replace(pull(mailbox, 1, key=text), address=text, proof=text)
    first = await store.pull(asked)
    assert first == page(1, entries[:1], 1)
    assert await store.pull(asked) == msgspec.structs.replace(first, repeated=True)
    [row] = await journal_of(store, mailbox)
    assert (row.key, row.address, row.proof) == (text, text, text)
    assert await store.keyed(mailbox.sdkappid, text) == [row]


async def in_what_must_not_come_twice(store: Store, mailbox: Mailbox, text: str) -> None:
    asked = msgspec.structs.replace(pull(mailbox), once=Once(text, NOW_MS + 1))
    await store.append(append(mailbox, records(2)))
    await store.pull(asked)
    with pytest.raises(ReplayRefused):
        await store.pull(asked)
    await store.pull(msgspec.structs.replace(asked, once=Once(text + "x", NOW_MS + 1)))


async def in_the_name_of_a_reader(store: Store, mailbox: Mailbox, text: str) -> None:
    entries = records(2)
    await store.append(append(mailbox, entries))
    asked = msgspec.structs.replace(pull(mailbox, 1), reader=Reader(text))
    await store.pull(asked)
    again = await store.pull(asked)
    assert (again.data, again.repeated, again.given) == (entries[0], True, 2)
    [state] = [state async for state in store.readers()]
    assert state.name == text
    await store.pull(msgspec.structs.replace(asked, reader=Reader(text, ack=1)))
    assert [row.reader for row in await journal_of(store, mailbox)] == [text, text]


async def in_a_batch(store: Store, mailbox: Mailbox, text: str) -> None:
    key = RepeatKey(text, text, b"1" * 16)
    entries = records(2)
    batch = append(mailbox, entries, key=key)
    assert [await store.append(batch) for _ in range(2)] == [2, 0]
    other = msgspec.structs.replace(key, digest=b"2" * 16)
    with pytest.raises(KeyReused):
        await store.append(msgspec.structs.replace(batch, repeat_key=other))
    for scope in (text, text, text + "x"):
        await store.append(fingerprinted(mailbox, [b"known"], [1], scope=scope))
    assert await data_of(store, mailbox) == [*entries, b"known", b"known"]


async def in_settings(store: Store, mailbox: Mailbox, text: str) -> None:
    value = text.encode()
    assert await store.change(Change(text, value, None))
    [setting] = await settings_of(store)
    assert (setting.name, setting.value) == (text, value)
    assert await store.setting(text) == setting
    assert [found async for found in store.settings(prefix=text)] == [setting]
    assert not await store.change(Change(text, b"2", None))
    assert await store.change(Change(text, None, value))
    own = f"{text}/{mailbox.sdkappid}"
    assert await store.change(Change(own, value, None))
    with pytest.raises(SettingChanged):
        await store.pull(msgspec.structs.replace(pull(mailbox), while_set=While(own, 0)))
    assert await store.change(Change(own, None, value))


async def in_marks(store: Store, mailbox: Mailbox, text: str) -> None:
    noted = Noted(NOW_MS, text)
    await store.mark({text: noted})
    assert await store.marks() == await store.marks(text) == {text: noted}


async def in_acts(store: Store, mailbox: Mailbox, text: str) -> None:
    await store.append(append(mailbox, records(1)))
    await store.pull(pull(mailbox))
    act = Act(text, text, text, text, NOW_MS, ticket())
    assert await store.redeliver(redeliver(mailbox, (1, 1), act=act)) == 1
    assert [row.act for row in await acts_of(store)] == [act]


PLACES = (
    in_a_pull,
    in_what_must_not_come_twice,
    in_the_name_of_a_reader,
    in_a_batch,
    in_settings,
    in_marks,
    in_acts,
)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_in_every_place(store: Store, text: str) -> None:
    for number, place in enumerate(PLACES, start=1):
        await place(store, Mailbox(number, Kind.DELIVERY_STATUS), text)
