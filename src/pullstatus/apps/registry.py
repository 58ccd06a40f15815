"""The server's copy of who may call, which is not what anybody is refused for.

It follows the store as that changes, and looks at it anew before a refusal:

    command -> store <- look <- refresh, twice a second
                             <- a request that would be refused

Looks are shared and have a distance, so that no number of such requests makes more than
`limits.LOOKS_PER_S_MAX` of them; a request waits for the next one, which is never far. What is
asked for by a name that is not known is read by that look, too, together with all others.

At the start it reads tokens, sources, the rules of routing, the first
`limits.APPLICATIONS_AT_START` applications and as many pairs. Each of the others is read by its
name when somebody would be refused for not being known; and once, beside its work, it goes through
them all for what is needed unasked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from pullstatus import limits
from pullstatus.apps.at_hand import LATE_S, PATIENCE_S, AtHand
from pullstatus.apps.masters import Masters
from pullstatus.apps.networks import address_of, network_of
from pullstatus.apps.routing import Rules, read_rules
from pullstatus.apps.sealing import Keyring
from pullstatus.apps.sources import read_kept
from pullstatus.apps.values import (
    APPLICATIONS,
    PAIRS,
    ROUTING,
    SECRET_ID,
    SOURCES,
    TOKENS,
    AppKey,
    Application,
    SecretPair,
    Token,
    application_in,
    application_setting,
    key_mark,
    pair_mark,
    pair_setting,
    read_application,
    read_pair,
    read_token,
    token_digest,
    token_mark,
    token_setting,
)
from pullstatus.errors import MasterKeyMissing, StoreCorrupt, StoreDamaged
from pullstatus.receipts.source import Source, builtin
from pullstatus.records import Kind
from pullstatus.store import Noted, Setting, Store, While

WALK_STEP = 50  # applications, some 10 us each
WALK_PAUSE_S = 0.005  # everybody else's turn
NAMES_STEP = 200  # settings that are asked for at a time, by their names

_Look = asyncio.Task[dict[str, Exception]]


class LiveApplication:
    """An application ready for the hot path: keys, mailboxes and networks at hand.

    Attributes:
        appkeys: its keys, opened, but for those that cannot be.
        marks, ids: for each of these, what the store notes its last use under, and its id.
        timed: whether one of them is not good at all times.
        while_set: holds as long as the application is as this knows it.
        while_proven: the same of the secret key pair that lets a call in, if one does.
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
        "while_proven",
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
        self.while_proven: While | None = None

    def by(self, pair: LivePair) -> LiveApplication:
        """The same for a call that this pair lets in: what it asks for rests on that, too."""
        let_in = object.__new__(LiveApplication)
        for name in LiveApplication.__slots__:
            setattr(let_in, name, getattr(self, name))
        let_in.while_proven = pair.while_set
        return let_in

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


async def stored_application(store: Store, sdkappid: int) -> LiveApplication | None:
    """An application as it is now, without its keys; None: there is none of that number."""
    setting = await store.setting(application_setting(sdkappid))
    application = application_in(setting)
    if setting is None or application is None:
        return None
    return LiveApplication(application, setting.revision)


class LivePair(msgspec.Struct, frozen=True):
    """A secret key pair ready for the hot path.

    Attributes:
        secret_key: opened; empty if it cannot be.
        revision: of its setting.
    """

    pair: SecretPair
    secret_key: str
    revision: int = 0

    @property
    def mark(self) -> str:
        """What the store notes its last use under."""
        return pair_mark(self.pair.id)

    @property
    def while_set(self) -> While:
        """It holds as long as the pair is as this knows it."""
        return While(pair_setting(self.pair.id), self.revision)

    def __repr__(self) -> str:
        return f"LivePair({self.pair.id})"


class Registry:
    """Applications by number, tokens by digest, pairs by SecretId; as of the last look.

    A key is opened once, when it is seen first. It stays open when it comes under another master
    key, whether or not that one is at hand. What cannot be opened holds up nothing else: it is
    locked, and tried again when the source of master keys says something else.

    Attributes:
        used: when keys, tokens and pairs were used since `note_uses` was called, in Unix
            milliseconds, and from which address, by their mark. Those of no others are kept.
        applications, pairs: those that are known; after `begin` there may be others.
        rules: those of routing.
        sources: how gateways speak, by name: ours, and those that operators have added.
        locked: applications of which a key cannot be opened, by number; pairs of which the secret
            cannot, by SecretId; tokens of which the signature key cannot, by the name of their
            setting; and why.
    """

    def __init__(self, store: Store, masters: Masters) -> None:
        """Nothing is known yet: see `begin`.

        Args:
            masters: what appkeys are opened with; read when one is met that cannot be.
        """
        self._store = store
        self._at_hand = AtHand(masters)
        self._keyring: Keyring | None = None
        self._tried = 0  # with which version of what is at hand all that is locked was
        self._revision = 0
        self._digests: dict[str, str] = {}
        self._next_look: _Look | None = None
        self._newest_look: _Look | None = None
        self._due_s = 0.0
        self._wanted: set[str] = set()  # settings that the next look is to read, by their names
        self._complete = True  # whether all that there are are known, as of the newest look
        self._pairs_complete = True
        self._walked = False
        self.applications: dict[int, LiveApplication] = {}
        self.pairs: dict[str, LivePair] = {}
        self.tokens: dict[str, Token] = {}
        self._signature_keys: dict[str, tuple[str, str]] = {}  # id and key, by the token's digest
        self.rules = Rules()
        self.sources: dict[str, Source] = dict(builtin())
        self.used: dict[str, tuple[int, str]] = {}
        self.locked: dict[int | str, MasterKeyMissing] = {}

    async def begin(self) -> None:
        """Take in what there is, before the first request; for once.

        Raises:
            StoreUnavailable, StoreCorrupt: as by `refresh`.
        """
        self._revision = self._store.revision  # what is written from here on, a look will see
        async for setting in self._store.settings(prefix=TOKENS):
            self._set_token(setting)
        async for setting in self._store.settings(prefix=ROUTING):
            self._set_rules(setting)
        async for setting in self._store.settings(prefix=SOURCES):
            self._set_source(setting)
        count = 0
        async for setting in self._store.settings(prefix=APPLICATIONS):
            self._complete = count < limits.APPLICATIONS_AT_START
            if not self._complete:
                break
            self._set_application(setting)
            count += 1
        count = 0
        async for setting in self._store.settings(prefix=PAIRS):
            self._pairs_complete = count < limits.APPLICATIONS_AT_START
            if not self._pairs_complete:
                break
            self._set_pair(setting)
            count += 1
        await self._open_locked(patience_s=None)

    def check_masters(self) -> None:
        """Say so if keys are locked for want of a source, and not of a key in it.

        Raises:
            StoreRefused: why the source of master keys cannot be read.
        """
        if self._at_hand.failure is not None:
            raise self._at_hand.failure

    @property
    def count(self) -> int | None:
        """How many applications there are; None if not all of them are known."""
        return len(self.applications) if self._complete else None

    async def walk(self) -> None:
        """Learn, once, of what matters unasked, if not all are known.

        Applications whose records expire, and what holds keys that cannot be opened; not before the
        source of master keys could be read. Works in small steps.

        Raises:
            StoreUnavailable, StoreCorrupt: as by `refresh`; call it again.
        """
        if (self._complete and self._pairs_complete) or self._walked:
            return
        if not self._at_hand.known:
            await self._read_masters()
        if not self._at_hand.known:
            return
        if not self._complete:
            await self._learn(APPLICATIONS, self._application_matters)
        if not self._pairs_complete:
            await self._learn(PAIRS, self._pair_matters)
        self._walked = True

    def _application_matters(self, name: str, value: bytes) -> bool:
        application = read_application(name, value)
        shut = any(not self._opens(key.master) for key in application.appkeys)
        return application.waiting_days_max is not None or shut

    def _pair_matters(self, name: str, value: bytes) -> bool:
        return not self._opens(read_pair(name, value).master)

    async def _learn(self, prefix: str, matters: Callable[[str, bytes], bool]) -> None:
        due: list[str] = []
        async for name, value in self._in_steps(prefix):
            if matters(name, value):
                due.append(name)
            if len(due) == WALK_STEP:
                await self._look_for(due)
                due.clear()
        if due:
            await self._look_for(due)

    async def _in_steps(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        """Settings whose names begin so, with pauses for everybody else."""
        count = 0
        async for setting in self._store.settings(prefix=prefix):
            if setting.value is not None:
                yield setting.name, setting.value
            count += 1
            if count % WALK_STEP == 0:
                await asyncio.sleep(WALK_PAUSE_S)

    async def look(self, sdkappid: int | None = None, *, patiently: bool = False) -> None:
        """Take in whatever was changed before this was called, in a look shared with others.

        Args:
            sdkappid: the application that is asked for. If it was not read yet, it is.
            patiently: wait for master keys that are still being read, as on a busy machine, if that
                application is locked until then; or some token, if none is asked for.

        Raises:
            StoreUnavailable: the store cannot be read now.
            StoreCorrupt: a setting is not what was set.
        """
        await self._look_for(self._unread(() if sdkappid is None else (sdkappid,)))
        if patiently and (self._lacks_tokens() if sdkappid is None else sdkappid in self.locked):
            await self._open_late()

    async def application(self, sdkappid: int) -> LiveApplication | None:
        """The application of this number, looked for if it is not known.

        Raises:
            StoreUnavailable, StoreCorrupt: as by `look`.
        """
        if sdkappid not in self.applications:
            await self.look(sdkappid)
        return self.applications.get(sdkappid)

    async def look_for_pair(self, secret_id: str) -> None:
        """Take in whatever was changed of a pair, and of the applications that it may read.

        If the pair is locked, it is waited for as by a patient `look`.

        Raises:
            StoreUnavailable, StoreCorrupt: as by `look`.
        """
        wanted = self._unread_of_pair(secret_id)
        await self._look_for(wanted)
        more = [name for name in self._unread_of_pair(secret_id) if name not in wanted]
        if more:
            await self._look_for(more)
        if secret_id in self.locked:
            await self._open_late()

    def _lacks_tokens(self) -> bool:
        return any(str(owner).startswith(TOKENS) for owner in self.locked)

    async def _open_late(self) -> None:
        if await self._at_hand.read_late(LATE_S):
            await self._look_for(())

    def _unread_of_pair(self, secret_id: str) -> list[str]:
        """The pair, if it was not read and there may be such; else which of its applications."""
        known = self.pairs.get(secret_id)
        if known is not None:
            return self._unread(known.pair.sdkappids)
        if self._pairs_complete or SECRET_ID.fullmatch(secret_id) is None:
            return []
        return [pair_setting(secret_id)]

    def _unread(self, sdkappids: Iterable[int]) -> list[str]:
        """Which of these applications there may be that were not read yet, by their settings."""
        if self._complete:
            return []
        return [application_setting(each) for each in sdkappids if each not in self.applications]

    async def _look_for(self, names: Collection[str]) -> None:
        """Take in whatever was changed, and settings of these names.

        Raises:
            StoreUnavailable, StoreCorrupt: as by `look`.
        """
        self._wanted.update(names)
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look_when_due(self._newest_look))
            self._next_look.add_done_callback(_retrieve)
        wrong = await asyncio.shield(self._next_look)
        for name in names:
            if name in wrong:
                raise wrong[name]

    async def refresh(self) -> None:
        """Take in what was changed since, at once; not for use by two at a time.

        Raises:
            StoreUnavailable: the store cannot be read now.
            StoreCorrupt: a setting is not what was set.
        """
        async for setting in self._store.settings(self._revision):
            self._set(setting)
            self._revision = setting.revision
        await self._open_locked()

    def token(self, secret: str, at_ms: int) -> Token | None:
        """The token with this secret, if it is good at that time."""
        token = self.tokens.get(token_digest(secret))
        return token if token is not None and token.good(at_ms) else None

    def signature_key(self, token: Token) -> str | None:
        """What a gateway signs requests under a token with; None: they need not be signed.

        Raises:
            MasterKeyMissing: it is sealed under one that is not at hand.
        """
        locked = self.locked.get(token_setting(token.name))
        if locked is not None:
            raise MasterKeyMissing(str(locked))  # a kept one would grow by who has raised it
        _, key = self._signature_keys.get(token.digest, ("", None))
        return key

    async def note_uses(self) -> None:
        """Have the store note when keys, tokens and pairs were last used; what can't be now stays.

        Raises:
            StoreUnavailable: the store cannot be written now.
            OutcomeUnknown: it may have been; noting it again changes nothing.
        """
        used, self.used = self.used, {}
        live = {mark for known in self.applications.values() for mark in known.marks}
        live |= {token_mark(token) for token in self.tokens.values()}
        live |= {known.mark for known in self.pairs.values()}
        places = limits.ADDRESS_CHARS_MAX
        noted = {mark: Noted(at_ms, place[:places]) for mark, (at_ms, place) in used.items()}
        good = [mark for mark in noted if mark in live or mark.rpartition("/")[0] in live]
        try:
            await self._store.mark({mark: noted[mark] for mark in good})
        except BaseException:
            self.used = used | self.used
            raise

    async def _read(self, names: Sequence[str]) -> dict[str, Exception]:
        """Take in settings of these names; returns what is wrong with some."""
        wrong: dict[str, Exception] = {}
        for name, found in (await self._store.settings_of(names)).items():
            try:
                if isinstance(found, StoreDamaged):
                    raise found
                self._set(found)
            except (StoreDamaged, StoreCorrupt) as error:
                wrong[name] = error
        return wrong

    async def _look_when_due(self, before: _Look | None) -> dict[str, Exception]:
        """Look, not too early; returns what is wrong with settings that were asked for by name."""
        loop = asyncio.get_running_loop()
        if before is not None:
            await asyncio.wait([before])
        while (early_s := self._due_s - loop.time()) > 0:  # noqa: ASYNC110 - timers come early
            await asyncio.sleep(early_s)
        self._due_s = loop.time() + 1 / limits.LOOKS_PER_S_MAX
        # Whoever comes from here on may know of a change that this look does not see.
        self._newest_look, self._next_look = self._next_look, None
        names, self._wanted = sorted(self._wanted), set()
        wrong: dict[str, Exception] = {}
        for first in range(0, len(names), NAMES_STEP):
            wrong |= await self._read(names[first : first + NAMES_STEP])
        await self.refresh()
        return wrong

    async def _open_locked(self, patience_s: float | None = PATIENCE_S) -> None:
        """Open what is locked, if other master keys are at hand now."""
        if not self.locked:
            return
        await self._read_masters(patience_s)
        if self._tried == self._at_hand.version:
            return
        self._tried = self._at_hand.version
        for count, owner in enumerate([*self.locked], start=1):
            if owner in self.locked:
                self._try_again(owner)
            if count % WALK_STEP == 0:
                await asyncio.sleep(0)

    async def _read_masters(self, patience_s: float | None = PATIENCE_S) -> None:
        await self._at_hand.read(patience_s)
        self._keyring = self._at_hand.keyring or self._keyring

    def _try_again(self, owner: int | str) -> None:
        if isinstance(owner, int):
            live = self.applications[owner]
            self.applications[owner] = self._live(live.application, live.while_set.revision)
        elif owner in self.pairs:
            known = self.pairs[owner]
            self.pairs[owner] = self._live_pair(known.pair, known.revision)
        else:
            self._open_token(self.tokens[self._digests[owner]])

    def _lock(self, owner: int | str, reason: MasterKeyMissing | None) -> None:
        """Keep why something cannot be opened; None: it is. What is the same stays one object."""
        if reason is None:
            self.locked.pop(owner, None)
        elif str(self.locked.get(owner)) != str(reason):
            self.locked[owner] = reason.with_traceback(None)  # its frames hold what is open

    def _opens(self, master: str) -> bool:
        return not master or (self._keyring is not None and master in self._keyring)

    def _keyring_with(self, master: str) -> Keyring:
        """What opens what is sealed under a master key, if that is at hand."""
        if self._keyring is None or master not in self._keyring:
            raise self._at_hand.seek(master)
        return self._keyring

    def _set(self, setting: Setting) -> None:
        if setting.name.startswith(APPLICATIONS):
            self._set_application(setting)
        elif setting.name.startswith(TOKENS):
            self._set_token(setting)
        elif setting.name.startswith(PAIRS):
            self._set_pair(setting)
        elif setting.name == ROUTING:
            self._set_rules(setting)
        elif setting.name.startswith(SOURCES):
            self._set_source(setting)

    def _set_application(self, setting: Setting) -> None:
        application = application_in(setting)
        if application is None:
            digits = setting.name.removeprefix(APPLICATIONS)
            if digits.isdigit():
                self.applications.pop(int(digits), None)
                self._lock(int(digits), None)
        else:
            self.applications[application.sdkappid] = self._live(application, setting.revision)

    def _live(self, application: Application, revision: int) -> LiveApplication:
        return LiveApplication(application, revision, self._opened(application))

    def _opened(self, application: Application) -> dict[AppKey, str]:
        """The keys of an application that can be opened; those that were seen before are known."""
        sdkappid = application.sdkappid
        before = self.applications.get(sdkappid)
        known = {} if before is None else dict(zip(before.ids, before.appkeys, strict=True))
        opened = {}
        reason = None
        for key in application.appkeys:
            try:
                opened[key] = (key.id and known.get(key.id)) or self._open(sdkappid, key)
            except MasterKeyMissing as error:
                reason = error
        self._lock(sdkappid, reason)
        return opened

    def _open(self, sdkappid: int, key: AppKey) -> str:
        if not key.master:
            return key.appkey
        return self._keyring_with(key.master).open(sdkappid, key)

    def _set_pair(self, setting: Setting) -> None:
        if setting.value is None:
            secret_id = setting.name.removeprefix(PAIRS)
            self.pairs.pop(secret_id, None)
            self._lock(secret_id, None)
        else:
            pair = read_pair(setting.name, setting.value)
            self.pairs[pair.id] = self._live_pair(pair, setting.revision)

    def _live_pair(self, pair: SecretPair, revision: int) -> LivePair:
        before = self.pairs.get(pair.id)
        secret_key, reason = "", None
        if before is not None and before.secret_key and before.pair.key_id == pair.key_id:
            secret_key = before.secret_key
        else:
            try:
                secret_key = self._keyring_with(pair.master).open_pair(pair)
            except MasterKeyMissing as error:
                reason = error
        self._lock(pair.id, reason)
        return LivePair(pair, secret_key, revision)

    def _set_token(self, setting: Setting) -> None:
        digest = self._digests.pop(setting.name, "")
        self.tokens.pop(digest, None)
        known = self._signature_keys.pop(digest, None)
        if setting.value is None:
            self._lock(setting.name, None)
            return
        token = read_token(setting.name, setting.value)
        self._digests[setting.name] = token.digest
        self.tokens[token.digest] = token
        if token.signature is not None and known is not None and known[0] == token.signature.id:
            self._signature_keys[token.digest] = known
            self._lock(setting.name, None)
        else:
            self._open_token(token)

    def _open_token(self, token: Token) -> None:
        key, reason = token.signature, None
        if key is not None:
            try:
                opened = self._keyring_with(key.master).open_token(token)
                self._signature_keys[token.digest] = (key.id, opened)
            except MasterKeyMissing as error:
                reason = error
        self._lock(token_setting(token.name), reason)

    def _set_rules(self, setting: Setting) -> None:
        self.rules = Rules() if setting.value is None else read_rules(setting.name, setting.value)

    def _set_source(self, setting: Setting) -> None:
        name = setting.name.removeprefix(SOURCES)
        if setting.value is not None:
            self.sources[name] = read_kept(setting.name, setting.value)
        elif name not in builtin():
            self.sources.pop(name, None)


def _retrieve(look: _Look) -> None:
    """Nobody may be left who waits for a look, or its error would be logged as forgotten."""
    if not look.cancelled():
        look.exception()
