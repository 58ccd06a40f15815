"""Making, changing and removing applications, safe beside servers and each other.

Their keys are changed in `appkeys`; tokens are in `tokens`, secret key pairs in `pairs`.

A number may have several owners, one after the other. None gets what was another's: `delete` and
`create` erase what waits, in commits that are refused once the number has a new owner; a batch or
page is known again by its key only to the owner whose it was.

Each function that changes something takes the `Operator` that does it, and leaves an act on record
in the commit that does. What changes nothing leaves none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from pullstatus import limits
from pullstatus.apps.erasure import let_go
from pullstatus.apps.operator import Operator, RandomHex
from pullstatus.apps.sealing import KEY_ID_BYTES, Keyring
from pullstatus.apps.uses import forget_uses
from pullstatus.apps.values import (
    APPLICATIONS,
    KEY_MARKS,
    RATES,
    AppKey,
    Application,
    application_in,
    application_setting,
    check_appkey,
    check_conditions,
    check_name,
    check_networks,
    check_sdkappid,
    key_mark,
    key_marks,
    read_application,
)
from pullstatus.apps.wrapping import check_sealing, guard
from pullstatus.errors import (
    AlreadyExists,
    InvalidSetting,
    SettingChanged,
    UnknownApplication,
    WorldError,
)
from pullstatus.records import Kind
from pullstatus.store import (
    Act,
    Aside,
    Backlog,
    Change,
    Noted,
    Setting,
    Store,
    While,
)


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An application to be made; the members are those of `Application`, in the words of commands.

    Attributes:
        appkey: its key; None: one made at random.
        strict: a signature is good once.
        rate, query_rate, statistics_rate: pulls, queries and calls for statistics a second; 0: no
            limit.
        waiting_days: days after which what nobody pulled expires; 0: never.
        wait: seconds that a pull of an empty mailbox waits for a record, if it does not say.
        window: seconds after which a request is too old.
    """

    sdkappid: int
    name: str = ""
    appkey: str | None = None
    enabled: bool = True
    pull: bool = True
    strict: bool = False
    arrears: bool = False
    allow: tuple[str, ...] = ()
    rate: int = 0
    waiting_days: int = 0
    wait: int = 0
    window: int = limits.SKEW_S_MAX
    query: bool = True
    query_rate: int = limits.QUERY_RATE
    statistics_rate: int = limits.STATISTICS_RATE

    def application(self, now_ms: int, random_hex: RandomHex) -> Application:
        """The application, not made yet.

        Raises:
            InvalidSetting: a member is out of bounds; it is named.
        """
        check_conditions(
            rates={name: getattr(self, name) for name in RATES},
            waiting_days=self.waiting_days,
            wait=self.wait,
            window=self.window,
        )
        appkey = (
            random_hex(limits.APPKEY_CHARS // 2)
            if self.appkey is None
            else check_appkey(self.appkey)
        )
        return Application(
            check_sdkappid(self.sdkappid),
            (AppKey(appkey, now_ms, random_hex(KEY_ID_BYTES)),),
            now_ms,
            name=check_name(self.name),
            enabled=self.enabled,
            pull=self.pull,
            arrears=self.arrears,
            strict=self.strict,
            allow=check_networks(self.allow),
            pull_rate_max=self.rate or None,
            waiting_days_max=self.waiting_days or None,
            wait_s=self.wait,
            window_s=self.window,
            owner=random_hex(8),
            query=self.query,
            query_rate_max=self.query_rate or None,
            statistics_rate_max=self.statistics_rate or None,
        )


async def create_application(
    store: Store,
    sdkappid: int,
    *,
    by: Operator,
    keyring: Keyring,
    appkey: str | None = None,
    pull: bool = True,
    name: str = "",
) -> Application:
    """Make an application, with a key of its own unless one is given; returns it with that.

    Args:
        keyring: seals the key for the store.

    Raises:
        InvalidSetting: the number, the key or the name is none.
        AlreadyExists: it is there.
    """
    wanted = Wanted(sdkappid, name, appkey, pull=pull)
    application = wanted.application(by.now_ms, by.random_hex)
    act = by.act("app create", sdkappid=sdkappid)
    [made] = await _create(store, [application], by=by, keyring=keyring, act=act)
    return made


async def import_applications(
    store: Store, wanted: Sequence[Application], *, by: Operator, keyring: Keyring
) -> Sequence[Application]:
    """Make applications, all in one commit or none; returns them with their keys.

    Raises:
        AlreadyExists: one is there.
    """
    numbers = [application.sdkappid for application in wanted]
    act = by.act("app import", sdkappids=numbers)
    return await _create(store, wanted, by=by, keyring=keyring, act=act)


async def _create(
    store: Store, wanted: Sequence[Application], *, by: Operator, keyring: Keyring, act: Act
) -> Sequence[Application]:
    while True:
        vacant = [await _application(store, application.sdkappid) for application in wanted]
        for before in vacant:
            if before.value is not None:
                raise AlreadyExists(_there_already(before))
        try:
            made = [await _succeed(store, by, *pair) for pair in zip(wanted, vacant, strict=True)]
        except SettingChanged:
            continue
        changes = [
            Change(before.name, _stored(application, keyring, by), None, before.revision)
            for application, before in zip(made, vacant, strict=True)
        ]
        if await store.change(guard(keyring), *changes, act=act, ticket=by.ticket()):
            return made
        await check_sealing(store, keyring)


def _there_already(setting: Setting) -> str:
    number = int(setting.name.removeprefix(APPLICATIONS))
    if application_in(setting) is None:
        return _is_leaving(number)
    return f"application {number} exists"


def _is_leaving(sdkappid: int) -> str:
    """What is said of an application that is being removed."""
    return f"application {sdkappid} is being removed: `pullstatus app delete {sdkappid}` ends that"


def _stored(application: Application, keyring: Keyring, by: Operator) -> bytes:
    """What the store is given of an application: its keys sealed."""
    return msgspec.json.encode(keyring.seal_all(application, by.random_hex))


async def _succeed(
    store: Store, by: Operator, application: Application, gone: Setting
) -> Application:
    """An application that knows where its former owner's entries end, of whom nothing waits.

    What a removal that was cut off has left is erased.

    Raises:
        SettingChanged: the number has an owner.
    """
    finished = by.act("app delete", sdkappid=application.sdkappid, erase=True)
    gone_still = While(gone.name, gone.revision)
    await let_go(store, application.sdkappid, by=by, act=finished, while_set=gone_still)
    tails = {row.mailbox.kind: row.accepted for row in await store.backlog(application.sdkappid)}
    if not any(tails.values()):
        return application
    former = tuple(tails.get(kind, 0) for kind in Kind)
    return msgspec.structs.replace(application, former=former)


async def change_application(
    store: Store,
    sdkappid: int,
    change: Callable[[Application], Application],
    *,
    by: Operator,
    action: str,
    keyring: Keyring | None = None,
    leaving: bool = False,
) -> Application:
    """Replace an application by what `change` makes of it; safe beside other changes.

    Args:
        action: what this is on record as, if it changes anything.
        keyring: seals keys that are new; None: none are.
        leaving: also one that is being removed.

    Raises:
        UnknownApplication: there is none of that number, or it is being removed.
    """
    while True:
        before = await _application(store, sdkappid)
        if before.value is None:
            raise UnknownApplication(f"application {sdkappid} does not exist")
        application = read_application(before.name, before.value)
        if application.leaving and not leaving:
            raise UnknownApplication(_is_leaving(sdkappid))
        after = change(application)
        sealed = after if keyring is None else keyring.seal_all(after, by.random_hex)
        encoded = msgspec.json.encode(sealed)
        if encoded == before.value or await store.change(
            Change(before.name, encoded, before.value),
            *([] if keyring is None else [guard(keyring)]),
            act=by.act(action, sdkappid=sdkappid, **_changed(application, after)),
            ticket=by.ticket(),
        ):
            return sealed
        if keyring is not None:
            await check_sealing(store, keyring)


def _changed(before: Application, after: Application) -> dict[str, object]:
    """What a change has set, for the record: of keys and networks how many, of a name nothing."""
    return {
        member: len(value) if isinstance(value, tuple) else "***" if member == "name" else value
        for member in Application.__struct_fields__
        if (value := getattr(after, member)) != getattr(before, member)
    }


async def delete_application(
    store: Store, sdkappid: int, *, by: Operator, erase: bool = False
) -> int:
    """Remove an application; returns how many waiting entries that erased.

    From the commit on that removes it nothing gets into its mailboxes any more, and no secret key
    pair that was for it reads who has its number next. One that was cut off, before that or behind
    it, is finished by calling this again.

    Args:
        erase: also when entries wait for it: they are erased, on record in the journal.

    Raises:
        UnknownApplication: there was never one of that number.
        InvalidSetting: entries wait, and not `erase`; nothing was removed.
        SettingChanged: somebody made or changed it meanwhile.
        WorldError: a note says what it may have left behind.
    """
    before = await _application(store, sdkappid)
    if not before.revision:
        raise UnknownApplication(f"application {sdkappid} does not exist")
    act = by.act("app delete", sdkappid=sdkappid, erase=erase)
    if not erase:
        try:
            await _remove_empty(store, sdkappid, by=by, act=act)
        except WorldError as error:
            error.add_note(_cut_off(sdkappid))
            raise
    elif before.value is not None and not await store.change(
        Change(before.name, None, before.value), act=act, ticket=by.ticket()
    ):
        raise SettingChanged(f"application {sdkappid} was changed meanwhile; try again")
    gone = await _application(store, sdkappid)
    if gone.value is not None:
        raise SettingChanged(f"application {sdkappid} was made anew meanwhile")
    gone_still = While(gone.name, gone.revision)
    erased, _ = await let_go(store, sdkappid, by=by, act=act, while_set=gone_still)
    await forget_uses(store, key_marks(sdkappid))
    return erased


def _cut_off(sdkappid: int) -> str:
    """What is said with the failure of a removal that may have begun."""
    return (
        f"application {sdkappid} may be refused everything from now on, as if it were gone:"
        f" `pullstatus app delete {sdkappid}` finishes that, or has it stay"
    )


async def _remove_empty(store: Store, sdkappid: int, *, by: Operator, act: Act) -> None:
    """Remove an application that nothing waits for, in two commits with a look before each.

    Behind the first one nothing gets in, so what the second look finds is all that there is.

    Raises:
        InvalidSetting: something waits; the application stays.
    """
    while True:
        before = await _application(store, sdkappid)
        application = before.value and read_application(before.name, before.value)
        try:
            await _check_none_waits(store, sdkappid)
        except InvalidSetting:
            if application and application.leaving:
                await change_application(
                    store, sdkappid, _stay, by=by, action="app delete", leaving=True
                )
            raise
        if not application:
            return
        leaving = msgspec.structs.replace(application, leaving=True)
        after = None if application.leaving else msgspec.json.encode(leaving)
        change = Change(before.name, after, before.value, before.revision)
        if await store.change(change, act=act, ticket=by.ticket()) and after is None:
            return


def _stay(application: Application) -> Application:
    return msgspec.structs.replace(application, leaving=False)


async def applications(store: Store) -> list[Application]:
    """All applications, by number."""
    found = [
        read_application(setting.name, setting.value)
        async for setting in store.settings(prefix=APPLICATIONS)
        if setting.value is not None
    ]
    return sorted(found, key=lambda application: application.sdkappid)


class Standing(msgspec.Struct, frozen=True):
    """An application and how it stands.

    Attributes:
        mailboxes: those that ever got something.
        used: when each of its keys was used last, and from where, in their order; None: not that we
            know.
    """

    application: Application
    mailboxes: list[Backlog]
    used: list[Noted | None]

    @property
    def waiting(self) -> int:
        """How many records wait for it."""
        return sum(row.waiting for row in self.mailboxes if not row.mailbox.aside)

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest record that waits was accepted."""
        records = [row for row in self.mailboxes if not row.mailbox.aside]
        return min((row.oldest_ms for row in records if row.oldest_ms is not None), default=None)

    @property
    def last_pull_ms(self) -> int | None:
        """When it pulled last, whether or not that brought anything."""
        pulled = [row.last_pull_ms for row in self.mailboxes if not row.mailbox.aside]
        times = [*pulled, *(used.at_ms for used in self.used if used is not None)]
        return max((at_ms for at_ms in times if at_ms is not None), default=None)


async def existing(store: Store, numbers: Iterable[int]) -> dict[int, str]:
    """Those of these numbers that applications have, and what is said of each."""
    found = {number: await _application(store, number) for number in numbers}
    return {
        number: _there_already(setting)
        for number, setting in found.items()
        if setting.value is not None
    }


async def standings(store: Store) -> list[Standing]:
    """All applications and how they stand, by number; in as many questions as for one."""
    mailboxes: dict[int, list[Backlog]] = {}
    for row in await store.backlog():
        mailboxes.setdefault(row.mailbox.sdkappid, []).append(row)
    marks = await store.marks(KEY_MARKS)
    return [
        _standing(application, mailboxes.get(application.sdkappid, []), marks)
        for application in await applications(store)
    ]


async def standing(store: Store, sdkappid: int) -> Standing:
    """One application and how it stands.

    Raises:
        UnknownApplication: there is none of that number.
    """
    setting = await _application(store, sdkappid)
    if setting.value is None:
        raise UnknownApplication(f"application {sdkappid} does not exist")
    marks = await store.marks(key_marks(sdkappid))
    application = read_application(setting.name, setting.value)
    return _standing(application, await store.backlog(sdkappid), marks)


def _standing(
    application: Application, mailboxes: list[Backlog], marks: Mapping[str, Noted]
) -> Standing:
    used = [marks.get(key_mark(application.sdkappid, key)) for key in application.appkeys]
    return Standing(application, mailboxes, used)


async def _application(store: Store, sdkappid: int) -> Setting:
    """An application's setting; without a value when there is none, or none any more."""
    name = application_setting(sdkappid)
    return await store.setting(name) or Setting(name, None, 0)


async def find_application(store: Store, sdkappid: int) -> Application | None:
    """The application of this number; None: there is none, or it is being removed."""
    return application_in(await _application(store, sdkappid))


async def _check_none_waits(store: Store, sdkappid: int) -> None:
    rows = await store.backlog(sdkappid)
    waiting = sum(row.waiting for row in rows if not row.mailbox.aside)
    parked = sum(row.waiting for row in rows if row.mailbox.parked)
    if waiting:
        raise InvalidSetting(
            f"{waiting} records wait for application {sdkappid}: pull them first, "
            "or say --erase to erase them"
        )
    if parked:
        raise InvalidSetting(
            f"{parked} items are parked for application {sdkappid}: see `pullstatus parked list`, "
            "or say --erase to erase them"
        )
    pending = sum(row.waiting for row in rows if row.mailbox.kind is Aside.PENDING)
    if pending:
        raise InvalidSetting(
            f"{pending} items of application {sdkappid} wait for a name or for other parts, and"
            f" become records within {limits.PENDING_PARTS_S // 60} minutes: pull them then, or say"
            " --erase to erase them"
        )
