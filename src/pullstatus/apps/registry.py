"""The server's copy of applications and tokens, which is not what anybody is refused for.

It follows the store as that changes, and looks at it anew before a refusal:

    command -> store <- look <- refresh, twice a second
                             <- a request that would be refused

Looks are shared and have a distance, so that no number of such requests makes more than
`limits.LOOKS_PER_S_MAX` of them; a request waits for the next one, which is never far.

At the start it reads tokens and the first `limits.APPLICATIONS_AT_START` applications. Each of the
others is read by its name when somebody would be refused for not being known; and once, beside its
work, it goes through them all for what is needed unasked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from pullstatus import limits
from pullstatus.apps.masters import Masters
from pullstatus.apps.networks import address_of, network_of
from pullstatus.apps.sealing import Keyring, master_key_missing
from pullstatus.apps.values import (
    APPLICATIONS,
    TOKENS,
    AppKey,
    Application,
    Token,
    application_setting,
    key_mark,
    read_application,
    read_token,
    token_digest,
    token_mark,
)
from pullstatus.errors import MasterKeyMissing
from pullstatus.records import Kind
from pullstatus.store import Noted, Setting, Store, While

WALK_STEP = 50  # applications, some 10 us each
WALK_PAUSE_S = 0.005  # everybody else's turn


class LiveApplication:
    """An application ready for the hot path: keys, mailboxes and networks at hand.

    Attributes:
        appkeys: its keys, opened, but for those that cannot be.
        marks, ids: for each of these, what the store notes its last use under, and its id.
        timed: whether one of them is not good at all times.
        while_set: holds as long as the application is as this knows it.
    """

    __slots__ = (
        "_keys",
        "appkeys",
        "application",
        "ids",
        "mailboxes",
        "marks",
        "networks",
        "timed",
        "while_set",
    )

    def __init__(
        self,
        application: Application,
        revision: int,
        opened: Mapping[AppKey, str] = MappingProxyType({}),
    ) -> None:
        self.application = application
        self.appkeys = tuple(opened.values())
        self.marks = tuple(key_mark(application.sdkappid, key) for key in opened)
        self.ids = tuple(key.id for key in opened)
        self.timed = any(key.not_before_ms or key.not_after_ms is not None for key in opened)
        self._keys = tuple(opened)
        self.mailboxes = tuple(application.mailbox(kind) for kind in Kind)
        self.networks = tuple(network_of(network) for network in application.allow)
        self.while_set = While(application_setting(application.sdkappid), revision)

    def good(self, at_ms: int) -> tuple[int, ...]:
        """Which of its keys are good at a time, by their places."""
        return tuple(place for place, key in enumerate(self._keys) if key.good(at_ms))

    def allows(self, address: str) -> bool:
        """Whether a call from this address is let in."""
        if not self.networks:
            return True
        try:
            parsed = address_of(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)


class Registry:
    """Applications by number and tokens by digest, as of the last look at the store.

    An appkey is opened once, when it is seen first. It stays open when it comes under another
    master key, whether or not that one is at hand.

    Attributes:
        used: when keys and tokens were used since `note_uses` was called, in Unix milliseconds, and
            from which address, by their mark. Those of no others are kept.
        applications: those that are known; after `begin` there may be others.
        locked: applications of which a key cannot be opened, by number, and why.
    """

    def __init__(self, store: Store, masters: Masters) -> None:
        """Nothing is known yet: see `begin`.

        Args:
            masters: what appkeys are opened with; read when one is met that cannot be.
        """
        self._store = store
        self._masters = masters
        self._keyring: Keyring | None = None
        self._revision = 0
        self._digests: dict[str, str] = {}
        self._next_look: asyncio.Task[None] | None = None
        self._newest_look: asyncio.Task[None] | None = None
        self._due_s = 0.0
        self._complete = True  # whether all that there are are known, as of the newest look
        self._walked = False
        self.applications: dict[int, LiveApplication] = {}
        self.tokens: dict[str, Token] = {}
        self.used: dict[str, tuple[int, str]] = {}
        self.locked: dict[int, MasterKeyMissing] = {}

    async def begin(self) -> None:
        """Take in what there is, before the first request; for once.

        Raises:
            StoreUnavailable, StoreCorrupt, StoreRefused: as by `refresh`.
        """
        self._revision = self._store.revision  # what is written from here on, a look will see
        async for setting in self._store.settings(prefix=TOKENS):
            self._set_token(setting)
        count = 0
        async for setting in self._store.settings(prefix=APPLICATIONS):
            self._complete = count < limits.APPLICATIONS_AT_START
            if not self._complete:
                break
            await self._set_application(setting)
            count += 1

    @property
    def count(self) -> int | None:
        """How many applications there are; None if not all of them are known."""
        return len(self.applications) if self._complete else None

    async def walk(self) -> None:
        """Learn, once, of those applications that matter unasked, if not all are known.

        Those whose records expire, and those with keys that cannot be opened. Works in small steps.

        Raises:
            StoreUnavailable, StoreCorrupt, StoreRefused: as by `refresh`; call it again.
        """
        if self._complete or self._walked:
            return
        at_hand = {master.id for master in await asyncio.to_thread(self._masters.read)}
        count = 0
        async for setting in self._store.settings(prefix=APPLICATIONS):
            if setting.value is not None:
                application = read_application(setting.name, setting.value)
                needed = {key.master for key in application.appkeys} - {""}
                if application.waiting_days_max is not None or needed - at_hand:
                    await self.look(application.sdkappid)
            count += 1
            if count % WALK_STEP == 0:
                await asyncio.sleep(WALK_PAUSE_S)
        self._walked = True

    async def look(self, sdkappid: int | None = None) -> None:
        """Take in whatever was changed before this was called, in a look shared with others.

        Args:
            sdkappid: the application that is asked for. If it was not read yet, it is read as it is
                now, and nothing else is.

        Raises:
            StoreUnavailable: the store cannot be read now.
            StoreCorrupt: a setting is not what was set.
        """
        if sdkappid is not None and not self._complete and sdkappid not in self.applications:
            await self._read(sdkappid)
            if sdkappid in self.applications:
                return
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look_when_due(self._newest_look))
            self._next_look.add_done_callback(_retrieve)
        await asyncio.shield(self._next_look)

    async def refresh(self) -> None:
        """Take in what was changed since, at once; not for use by two at a time.

        Raises:
            StoreUnavailable: the store cannot be read now.
            StoreCorrupt: a setting is not what was set.
            StoreRefused: the source of master keys cannot be read.
        """
        async for setting in self._store.settings(self._revision):
            if setting.name.startswith(APPLICATIONS):
                await self._set_application(setting)
            elif setting.name.startswith(TOKENS):
                self._set_token(setting)
            self._revision = setting.revision

    def token(self, secret: str, at_ms: int) -> Token | None:
        """The token with this secret, if it is good at that time."""
        token = self.tokens.get(token_digest(secret))
        return token if token is not None and token.good(at_ms) else None

    async def note_uses(self) -> None:
        """Have the store note when keys and tokens were last used; what it can't note now stays.

        Raises:
            StoreUnavailable: the store cannot be written now.
            OutcomeUnknown: it may have been; noting it again changes nothing.
        """
        used, self.used = self.used, {}
        live = {mark for known in self.applications.values() for mark in known.marks}
        live |= {token_mark(token) for token in self.tokens.values()}
        places = limits.ADDRESS_CHARS_MAX
        noted = {mark: Noted(at_ms, place[:places]) for mark, (at_ms, place) in used.items()}
        try:
            await self._store.mark({mark: noted[mark] for mark in noted.keys() & live})
        except BaseException:
            self.used = used | self.used
            raise

    async def _read(self, sdkappid: int) -> None:
        """Take in one application, if it exists."""
        while sdkappid not in self.applications:
            before = self._revision
            setting = await self._store.setting(application_setting(sdkappid))
            if setting is None or setting.value is None:
                return
            live = await self._live(setting, setting.value)
            if self._revision == before:  # or it may be of before a change that came meanwhile
                self.applications[sdkappid] = live

    async def _look_when_due(self, before: asyncio.Task[None] | None) -> None:
        loop = asyncio.get_running_loop()
        if before is not None:
            await asyncio.wait([before])
        while (early_s := self._due_s - loop.time()) > 0:  # noqa: ASYNC110 - timers come early
            await asyncio.sleep(early_s)
        self._due_s = loop.time() + 1 / limits.LOOKS_PER_S_MAX
        # Whoever comes from here on may know of a change that this look does not see.
        self._newest_look, self._next_look = self._next_look, None
        await self.refresh()

    async def _set_application(self, setting: Setting) -> None:
        if setting.value is None:
            digits = setting.name.removeprefix(APPLICATIONS)
            if digits.isdigit():
                self.applications.pop(int(digits), None)
                self.locked.pop(int(digits), None)
        else:
            live = await self._live(setting, setting.value)
            self.applications[live.application.sdkappid] = live

    async def _live(self, setting: Setting, value: bytes) -> LiveApplication:
        application = read_application(setting.name, value)
        opened = await self._opened(application)
        return LiveApplication(application, setting.revision, opened)

    async def _opened(self, application: Application) -> dict[AppKey, str]:
        """The keys of an application that can be opened; those that were seen before are known."""
        sdkappid = application.sdkappid
        before = self.applications.get(sdkappid)
        known = {} if before is None else dict(zip(before.ids, before.appkeys, strict=True))
        self.locked.pop(sdkappid, None)
        opened = {}
        for key in application.appkeys:
            try:
                opened[key] = (key.id and known.get(key.id)) or await self._open(sdkappid, key)
            except MasterKeyMissing as error:
                self.locked[sdkappid] = error
        return opened

    async def _open(self, sdkappid: int, key: AppKey) -> str:
        if not key.master:
            return key.appkey
        if self._keyring is None or key.master not in self._keyring:
            masters = await asyncio.to_thread(self._masters.read)
            if not masters:
                raise master_key_missing(key.master, self._masters.place)
            self._keyring = Keyring(masters, self._masters.place)
        return self._keyring.open(sdkappid, key)

    def _set_token(self, setting: Setting) -> None:
        digest = self._digests.pop(setting.name, None)
        if digest is not None:
            self.tokens.pop(digest, None)
        if setting.value is not None:
            token = read_token(setting.name, setting.value)
            self.tokens[token.digest] = token
            self._digests[setting.name] = token.digest


def _retrieve(look: asyncio.Task[None]) -> None:
    """Nobody may be left who waits for a look, or its error would be logged as forgotten."""
    if not look.cancelled():
        look.exception()
