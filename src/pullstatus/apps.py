"""Applications and tokens: who may pull, who may feed, under which conditions.

Both live in the store as settings, so that commands and a running server see the same; `Registry`
is the server's copy of them, refreshed as they change. Clock and random source are passed in.
This room must not know HTTP or how a store keeps what it is given.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable

import msgspec

from pullstatus import limits
from pullstatus.errors import (
    AlreadyExists,
    InvalidSetting,
    StoreCorrupt,
    UnknownApplication,
    UnknownToken,
)
from pullstatus.records import Kind
from pullstatus.store import Discard, Mailbox, Outcome, Store

TOKEN_PREFIX = "pst_"  # noqa: S105 - lets a scanner for leaked secrets know ours
TOKEN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
APPKEY = re.compile(r"[0-9a-fA-F]{32}")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
RandomHex = Callable[[int], str]  # so many random bytes, as hex digits


class AppKey(msgspec.Struct, frozen=True):
    """A secret an application signs with."""

    appkey: str
    created_ms: int

    def __repr__(self) -> str:
        return "AppKey(***)"


class Application(msgspec.Struct, frozen=True, omit_defaults=True):
    """One customer's application.

    Attributes:
        appkeys: live keys, newest first; a signature by any of them is good.
        enabled: off: every call is refused with 1020.
        pull: the pull feature; off: refused with 1006.
        arrears: stopped for unpaid bills: refused with 1033.
        single_use: a signature is good once; a repeat is refused with 1001.
        allow: networks it may call from, as CIDR; empty: any.
        pull_rate_max: pulls a second; above, refused with 60007. None: no limit.
        waiting_days_max: days after which what nobody pulled expires. None: never.
    """

    sdkappid: int
    appkeys: tuple[AppKey, ...]
    created_ms: int
    enabled: bool = True
    pull: bool = True
    arrears: bool = False
    single_use: bool = False
    allow: tuple[str, ...] = ()
    pull_rate_max: int | None = None
    waiting_days_max: int | None = None

    def mailbox(self, kind: Kind) -> Mailbox:
        """Its mailbox of one kind."""
        return Mailbox(self.sdkappid, kind)


class Token(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a gateway shows to put records in. Only its digest is kept.

    Attributes:
        sdkappid: the one application it may feed; None: any, but not by `/callbacks`.
    """

    name: str
    digest: str
    created_ms: int
    sdkappid: int | None = None


# -- changing them ---------------------------------------------------------------------------------


async def create_application(
    store: Store,
    sdkappid: int,
    *,
    now_ms: int,
    random_hex: RandomHex,
    appkey: str | None = None,
    pull: bool = True,
) -> Application:
    """Make an application, with a key of its own unless one is given.

    Raises:
        InvalidSetting: the number or the key is none.
        AlreadyExists: it is there.
    """
    check_sdkappid(sdkappid)
    key = AppKey(check_appkey(appkey) if appkey is not None else random_hex(16), now_ms)
    application = Application(sdkappid, (key,), now_ms, pull=pull)
    if not await store.change(_app_name(sdkappid), msgspec.json.encode(application), expected=None):
        raise AlreadyExists(f"application {sdkappid} exists")
    return application


async def change_application(
    store: Store, sdkappid: int, change: Callable[[Application], Application]
) -> Application:
    """Replace an application by what `change` makes of it; safe beside other changes.

    Raises:
        UnknownApplication: there is none of that number.
    """
    while True:
        before = await _value(store, _app_name(sdkappid))
        if before is None:
            raise UnknownApplication(f"application {sdkappid} does not exist")
        after = change(_read_application(_app_name(sdkappid), before))
        encoded = msgspec.json.encode(after)
        if encoded == before or await store.change(_app_name(sdkappid), encoded, expected=before):
            return after


async def rotate_key(
    store: Store,
    sdkappid: int,
    *,
    now_ms: int,
    random_hex: RandomHex,
    appkey: str | None = None,
    drop_old: bool = False,
) -> Application:
    """Give an application a new key; the one before stays good beside it, unless `drop_old`.

    Of the keys before, only the newest stays: at most `limits.APPKEYS_LIVE_MAX` are live.
    """
    key = AppKey(check_appkey(appkey) if appkey is not None else random_hex(16), now_ms)

    def rotate(application: Application) -> Application:
        if any(old.appkey.lower() == key.appkey.lower() for old in application.appkeys):
            raise AlreadyExists("this appkey is live already; leave --appkey out for a new one")
        kept = () if drop_old else application.appkeys[: limits.APPKEYS_LIVE_MAX - 1]
        return msgspec.structs.replace(application, appkeys=(key, *kept))

    return await change_application(store, sdkappid, rotate)


async def delete_application(
    store: Store, sdkappid: int, *, now_ms: int, erase: bool = False
) -> int:
    """Remove an application; returns how many waiting entries that erased.

    Args:
        erase: also when entries wait for it: they are erased, on record in the journal.

    Raises:
        UnknownApplication: there is none of that number.
        InvalidSetting: entries wait, and not `erase`.
    """
    before = await _value(store, _app_name(sdkappid))
    if before is None:
        raise UnknownApplication(f"application {sdkappid} does not exist")
    waiting = sum(row.waiting for row in await store.backlog() if row.mailbox.sdkappid == sdkappid)
    if waiting and not erase:
        raise InvalidSetting(
            f"{waiting} records wait for application {sdkappid}: pull them first, "
            "or say --erase to erase them"
        )
    if not await store.change(_app_name(sdkappid), None, expected=before):
        raise InvalidSetting(f"application {sdkappid} was changed meanwhile; try again")
    return sum(
        [
            await store.discard(Discard(Mailbox(sdkappid, kind), Outcome.ERASED, now_ms))
            for kind in Kind
        ]
    )


async def applications(store: Store) -> list[Application]:
    """All applications, by number."""
    return sorted(
        (
            _read_application(setting.name, setting.value)
            for setting in await store.settings()
            if setting.value is not None and setting.name.startswith("application/")
        ),
        key=lambda application: application.sdkappid,
    )


async def create_token(
    store: Store, name: str, *, now_ms: int, random_hex: RandomHex, sdkappid: int | None = None
) -> tuple[Token, str]:
    """Make a token; returns it and its secret, which is not kept and cannot be shown again.

    Raises:
        InvalidSetting: the name is none.
        UnknownApplication: it is for an application that does not exist.
        AlreadyExists: a token has that name.
    """
    if TOKEN_NAME.fullmatch(name) is None:
        raise InvalidSetting(
            "a token's name is 1 to 64 letters, digits, dots, dashes or underscores,"
            " and starts with a letter or digit"
        )
    if sdkappid is not None:
        check_sdkappid(sdkappid)
        if await _value(store, _app_name(sdkappid)) is None:
            raise UnknownApplication(f"application {sdkappid} does not exist; create it first")
    secret = TOKEN_PREFIX + random_hex(32)
    token = Token(name, token_digest(secret), now_ms, sdkappid)
    if not await store.change(f"token/{name}", msgspec.json.encode(token), expected=None):
        raise AlreadyExists(f"a token named {name} exists; revoke it first, or choose another name")
    return token, secret


async def revoke_token(store: Store, name: str) -> None:
    """Make a token good for nothing.

    Raises:
        UnknownToken: none has that name.
    """
    before = await _value(store, f"token/{name}")
    if before is None:
        raise UnknownToken("no token has this name; `pullstatus token list` shows them")
    await store.change(f"token/{name}", None, expected=before)


async def tokens(store: Store) -> list[Token]:
    """All tokens, by name."""
    return sorted(
        (
            _read_token(setting.name, setting.value)
            for setting in await store.settings()
            if setting.value is not None and setting.name.startswith("token/")
        ),
        key=lambda token: token.name,
    )


def check_sdkappid(sdkappid: int) -> int:
    """The number itself, if an application can have it: some clients hold it in 31 bits."""
    if not 1 <= sdkappid <= limits.SDKAPPID_MAX:
        raise InvalidSetting(f"an sdkappid is a number from 1 to {limits.SDKAPPID_MAX}")
    return sdkappid


def check_appkey(appkey: str) -> str:
    """The key itself, if it is one: the signature takes its characters as they are."""
    if APPKEY.fullmatch(appkey) is None:
        raise InvalidSetting("an appkey is 32 hexadecimal digits, without blanks around them")
    return appkey


def check_networks(networks: Iterable[str]) -> tuple[str, ...]:
    """Networks in their usual spelling.

    Raises:
        InvalidSetting: one is no CIDR.
    """
    try:
        return tuple(str(ipaddress.ip_network(network)) for network in networks)
    except ValueError as error:
        raise InvalidSetting(
            "an allowed network is an address or a CIDR such as 192.0.2.0/24 or 2001:db8::/32"
        ) from error


def token_digest(secret: str) -> str:
    """What is kept of a token: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


# -- the server's copy -----------------------------------------------------------------------------


class Live:
    """An application ready for the hot path: keys, mailboxes and networks at hand."""

    __slots__ = ("appkeys", "application", "mailboxes", "networks")

    def __init__(self, application: Application) -> None:
        self.application = application
        self.appkeys = tuple(key.appkey for key in application.appkeys)
        self.mailboxes = tuple(application.mailbox(kind) for kind in Kind)
        self.networks = tuple(ipaddress.ip_network(network) for network in application.allow)

    def allows(self, address: str) -> bool:
        """Whether a call from this address is let in."""
        if not self.networks:
            return True
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self.networks)


class Registry:
    """Applications and tokens as of the last `refresh`, by number and by digest."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._revision = 0
        self._digests: dict[str, str] = {}
        self.applications: dict[int, Live] = {}
        self.tokens: dict[str, Token] = {}

    async def refresh(self) -> None:
        """Take in what was changed since.

        Raises:
            StoreCorrupt: a setting is not what was set.
        """
        for setting in await self._store.settings(self._revision):
            if setting.name.startswith("application/"):
                self._set_application(setting.name, setting.value)
            elif setting.name.startswith("token/"):
                self._set_token(setting.name, setting.value)
            self._revision = setting.revision

    def token(self, secret: str) -> Token | None:
        """The token with this secret, if it is good."""
        return self.tokens.get(token_digest(secret))

    def _set_application(self, name: str, value: bytes | None) -> None:
        if value is None:
            digits = name.removeprefix("application/")
            if digits.isdigit():
                self.applications.pop(int(digits), None)
        else:
            application = _read_application(name, value)
            self.applications[application.sdkappid] = Live(application)

    def _set_token(self, name: str, value: bytes | None) -> None:
        digest = self._digests.pop(name, None)
        if digest is not None:
            self.tokens.pop(digest, None)
        if value is not None:
            token = _read_token(name, value)
            self.tokens[token.digest] = token
            self._digests[name] = token.digest


def _read_application(name: str, value: bytes) -> Application:
    """An application's setting; proven to be its own, since its records go to whoever signs it."""
    try:
        application = msgspec.json.decode(value, type=Application)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupt(f"the setting {name} is damaged; {_ADVICE}") from error
    if name != _app_name(application.sdkappid):
        raise StoreCorrupt(f"the setting {name} is that of another application; {_ADVICE}")
    return application


def _read_token(name: str, value: bytes) -> Token:
    try:
        return msgspec.json.decode(value, type=Token)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupt(f"the setting {name} is damaged; {_ADVICE}") from error


_ADVICE = "keep a copy of the store, then `pullstatus restore` a backup"


def _app_name(sdkappid: int) -> str:
    return f"application/{sdkappid}"


async def _value(store: Store, name: str) -> bytes | None:
    for setting in await store.settings():
        if setting.name == name:
            return setting.value
    return None
