"""What applications, tokens and secret key pairs are, and how a store keeps them."""

from __future__ import annotations

import contextlib
import enum
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from pullstatus import limits
from pullstatus.apps.networks import network_of
from pullstatus.errors import InvalidSetting, StoreCorrupt
from pullstatus.json import NO_JSON
from pullstatus.receipts.signatures import SCHEMES
from pullstatus.records import Kind
from pullstatus.store import Mailbox, Setting

TOKEN_PREFIX = "pst_"  # noqa: S105 - lets a scanner for leaked secrets know ours
KEY_END = re.compile(rf"[0-9a-fA-F]{{1,{limits.APPKEY_CHARS}}}")
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
APPKEY = re.compile(rf"[0-9a-fA-F]{{{limits.APPKEY_CHARS}}}")

SIGNATURE_KEY = re.compile(rf"[!-~]{{1,{limits.SIGNATURE_KEY_CHARS_MAX}}}")
SECRET_ID = re.compile(rf"AKID[0-9A-Za-z]{{{limits.SECRET_CHARS}}}")
SECRET_KEY = re.compile(rf"[0-9A-Za-z]{{{limits.SECRET_CHARS}}}")

APPLICATIONS = "application/"  # what the names of their settings begin with
TOKENS = "token/"
PAIRS = "secret/"  # whoever is of an application has its number at the end; these never have
NOBODY: Final = 0
"""The number that what belongs to nobody is parked under: no application can have it."""

SEALING = "master-key"  # names of the settings that there is one of
ROUTING = "routing"  # see `apps.routing`
SOURCES = "source/"  # see `apps.sources`
REWRITE_DUE = "rewrite-due"
INDEX_KEY = "index-key"  # of the hashes that records are found by: see `mailbox.index`
SEALED_AROUND = 12 + 16  # nonce and tag
SEALED_BYTES = SEALED_AROUND + limits.APPKEY_CHARS
SEALED_SECRET_BYTES = SEALED_AROUND + limits.SECRET_CHARS
KEY_MARKS = "key/"  # what the marks of keys begin with
TOKEN_MARKS = "token/"  # noqa: S105 - and those of tokens
PAIR_MARKS = "secret/"  # and of secret key pairs


class Purpose(enum.IntEnum):
    """What a call wants of an application's records."""

    PULL = 0  # to take them
    QUERY = 1  # to read those of one number
    STATISTICS = 2  # to have them counted


RATES: Final = ("rate", "query_rate", "statistics_rate")
"""What commands call the rates of each purpose, in that order."""


class Sealing(msgspec.Struct, frozen=True):
    """Which master key a store's appkeys are sealed under.

    Attributes:
        id: its.
    """

    id: str


class AppKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A secret an application signs with: its digits, or those sealed.

    Attributes:
        appkey: its digits; empty when they are sealed. Stores keep them readable only if 0.1.0
            wrote them, and until somebody with a master key opens them.
        id: made at random with it, to tell it from others of its application.
        end: its last digits, by which people know it.
        sealed: see `pullstatus.apps.sealing`.
        master: id of the master key that it is sealed under; empty when it is not.
        not_before_ms, not_after_ms: when it begins and ends to be good; None: it never ends.
    """

    appkey: str = ""
    created_ms: int = 0
    id: str = ""
    end: str = ""
    sealed: bytes = b""
    master: str = ""
    not_before_ms: int = 0
    not_after_ms: int | None = None

    def good(self, at_ms: int) -> bool:
        """Whether a call of that time may be signed with it."""
        return self.not_before_ms <= at_ms and not ends_by(self.not_after_ms, at_ms)

    @property
    def ends_with(self) -> str:
        """Its last four digits."""
        return self.end or self.appkey[-4:]

    def __repr__(self) -> str:
        return f"AppKey({self.id})"


class Application(msgspec.Struct, frozen=True, omit_defaults=True):
    """One customer's application.

    Attributes:
        appkeys: live keys, newest first; a signature by any of them is good.
        name: the customer's, for people; nothing depends on it.
        enabled: off: every call is refused.
        pull: the pull feature; off: pulls are refused.
        query: what reads without taking: queries and statistics; off: they are refused.
        arrears: stopped for unpaid bills: every call is refused.
        strict: what is signed is good once; a repeat is refused. Stored as `single_use`.
        allow: networks it may call from, as CIDR; empty: any.
        pull_rate_max, query_rate_max, statistics_rate_max: calls a second of each purpose; above,
            they are refused. None: no limit.
        waiting_days_max: days after which what nobody pulled expires. None: never.
        wait_s: seconds that a pull of an empty mailbox waits for a record, if it does not say.
        window_s: seconds after which a request, by the time it was signed with, is too old.
        owner: made at random with the application: tells it from others that had or will have its
            number. Empty in those made before there was such a thing.
        former: of each kind, the number of the last entry that was a former owner's; empty: none
            ever was.
        leaving: it is being removed if nothing waits for it, and is to all as if it were gone.
    """

    sdkappid: int
    appkeys: tuple[AppKey, ...]
    created_ms: int
    name: str = ""
    enabled: bool = True
    pull: bool = True
    arrears: bool = False
    strict: bool = msgspec.field(default=False, name="single_use")
    allow: tuple[str, ...] = ()
    pull_rate_max: int | None = None
    waiting_days_max: int | None = None
    wait_s: int = 0
    window_s: int = limits.SKEW_S_MAX
    owner: str = ""
    former: tuple[int, ...] = ()
    query: bool = True
    query_rate_max: int | None = limits.QUERY_RATE
    statistics_rate_max: int | None = limits.STATISTICS_RATE
    leaving: bool = False

    def permits(self, purpose: Purpose) -> bool:
        """Whether what a call wants is switched on."""
        return self.pull if purpose is Purpose.PULL else self.query

    def rate_max(self, purpose: Purpose) -> int | None:
        """How many calls a second may want this; None: any number."""
        return (self.pull_rate_max, self.query_rate_max, self.statistics_rate_max)[purpose]

    def mailbox(self, kind: Kind) -> Mailbox:
        """Its mailbox of one kind."""
        return Mailbox(self.sdkappid, kind)


class SignatureKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a gateway signs its callbacks with, and we prove them by.

    Attributes:
        id: its own, by which it is known that it is another one now.
        key: itself, in no store.
        sealed, master: the same under the master key of this id.
        scheme: the one of `receipts.signatures` that it is for; "": any that signs each request,
            which nobody gets by without the key.
    """

    id: str
    key: str = ""
    sealed: bytes = b""
    master: str = ""
    scheme: str = ""

    def __repr__(self) -> str:
        return f"SignatureKey({self.id})"


class Token(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a gateway shows to put records in. Only its digest is kept.

    Attributes:
        sdkappid: the one application it may feed; None: any, but not by `/callbacks`.
        owner: whose application that is: not to feed who has the number next. Empty, as that of
            the application, where it was made before owners were known.
        not_after_ms: when it ends to be good; None: never.
        signature: what requests under it are signed with, by gateways that sign; None: they need
            not be.
    """

    name: str
    digest: str
    created_ms: int
    sdkappid: int | None = None
    owner: str = ""
    not_after_ms: int | None = None
    signature: SignatureKey | None = None

    def good(self, at_ms: int) -> bool:
        """Whether it may be shown at that time."""
        return not ends_by(self.not_after_ms, at_ms)

    def feeds(self, application: Application) -> bool:
        """Whether it may put records into this application's mailboxes."""
        if self.sdkappid is None:
            return True
        return self.sdkappid == application.sdkappid and self.owner == application.owner


class Grant(msgspec.Struct, frozen=True):
    """An application that a secret key pair may read.

    Attributes:
        owner: whose it was then: who has the number next is not read by an old grant.
    """

    sdkappid: int
    owner: str


class SecretPair(msgspec.Struct, frozen=True, omit_defaults=True):
    """A secret key pair: what an account signs with, for some applications.

    Attributes:
        id: its SecretId, by which everybody knows it.
        grants: the applications that it may read.
        key_id: made at random with the secret key, which it tells from another that had or will
            have this SecretId.
        secret_key: empty when it is sealed, as it is in every store.
        sealed, master: as of an `AppKey`.
        enabled: off: every call is refused.
        unsigned_payload: whether a body may be left unsigned.
        v1: whether the older way to sign is good.
    """

    id: str
    grants: tuple[Grant, ...]
    created_ms: int
    key_id: str
    secret_key: str = ""
    sealed: bytes = b""
    master: str = ""
    enabled: bool = True
    unsigned_payload: bool = False
    v1: bool = False

    def grants_to(self, application: Application) -> bool:
        """Whether it may read this application, as that is owned now."""
        return Grant(application.sdkappid, application.owner) in self.grants

    @property
    def sdkappids(self) -> tuple[int, ...]:
        """Numbers of the applications that it was granted, whoever has them now."""
        return tuple(grant.sdkappid for grant in self.grants)

    def __repr__(self) -> str:
        return f"SecretPair({self.id})"


def ends_by(not_after_ms: int | None, at_ms: int) -> bool:
    """Whether what has this end has come to it."""
    return not_after_ms is not None and at_ms >= not_after_ms


def token_mark(token: Token) -> str:
    """What the last use of a token is noted under: its digest, so that no next one has it."""
    return f"{TOKEN_MARKS}{token.digest[:16]}"


def source_mark(token: Token, source: str) -> str:
    """What is noted under when the last record of a source came by a token."""
    return f"{token_mark(token)}/{source}"


def key_mark(sdkappid: int, key: AppKey) -> str:
    """What the last use of a key is noted under."""
    return f"{key_marks(sdkappid)}{key.id}"


def key_marks(sdkappid: int) -> str:
    """What the marks of an application's keys begin with."""
    return f"{KEY_MARKS}{sdkappid}/"


def pair_mark(secret_id: str) -> str:
    """What the last use of a secret key pair is noted under."""
    return f"{PAIR_MARKS}{secret_id}"


def application_setting(sdkappid: int) -> str:
    """The name of an application's setting."""
    return f"{APPLICATIONS}{sdkappid}"


def token_setting(name: str) -> str:
    """The name of a token's setting."""
    return f"{TOKENS}{name}"


def pair_setting(secret_id: str) -> str:
    """The name of a secret key pair's setting."""
    return f"{PAIRS}{secret_id}"


def read_application(name: str, value: bytes) -> Application:
    """An application's setting; proven to be its own, since its records go to whoever signs it.

    Raises:
        StoreCorrupt: it is not what was set.
    """
    application = decoded(name, value, _decode_application)
    if name != application_setting(application.sdkappid):
        raise StoreCorrupt(f"the setting {told(name)} is that of another application; {ADVICE}")
    with as_set(name):
        _check_application(application)
    return application


def application_in(setting: Setting | None) -> Application | None:
    """The application that its setting holds; None: there is none, or none any more.

    Raises:
        StoreCorrupt: it is not what was set.
    """
    if setting is None or setting.value is None:
        return None
    application = read_application(setting.name, setting.value)
    return None if application.leaving else application


def read_token(name: str, value: bytes) -> Token:
    """A token's setting, proven to be its own.

    Raises:
        StoreCorrupt: it is not what was set.
    """
    token = decoded(name, value, _decode_token)
    if name != token_setting(token.name):
        raise StoreCorrupt(f"the setting {told(name)} is that of another token; {ADVICE}")
    with as_set(name):
        _check_token(token)
    return token


def read_pair(name: str, value: bytes) -> SecretPair:
    """A secret key pair's setting, proven to be its own.

    Raises:
        StoreCorrupt: it is not what was set.
    """
    pair = decoded(name, value, _decode_pair)
    if name != pair_setting(pair.id):
        raise StoreCorrupt(f"the setting {told(name)} is that of another pair; {ADVICE}")
    with as_set(name):
        _check_pair(pair)
    return pair


_T = TypeVar("_T")
_decode_application: Final = msgspec.json.Decoder(Application).decode
_decode_token: Final = msgspec.json.Decoder(Token).decode
_decode_pair: Final = msgspec.json.Decoder(SecretPair).decode
ADVICE = "keep a copy of the store, then `pullstatus restore` a backup"
ID = re.compile(r"[0-9a-f]{16}")  # of a key, or of a master key
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME_CHARS_MAX = 80  # of a setting that somebody else may have named, in an error


def decoded(name: str, value: bytes, decode: Callable[[bytes], _T]) -> _T:
    """A setting's value.

    Raises:
        StoreCorrupt: it is not what was set.
    """
    try:
        return decode(value)
    except NO_JSON as error:
        raise StoreCorrupt(f"the setting {told(name)} is damaged; {ADVICE}") from error


def told(name: str) -> str:
    """A setting's name, as it may be shown."""
    return name[:_NAME_CHARS_MAX]


@contextlib.contextmanager
def as_set(name: str) -> Iterator[None]:
    """What no command would have set was set by something else."""
    try:
        yield
    except InvalidSetting as error:
        raise StoreCorrupt(
            f"the setting {told(name)} is not what was set: {error}; {ADVICE}"
        ) from error


def _check_application(application: Application) -> None:
    check_sdkappid(application.sdkappid)
    check_name(application.name)
    check_networks(application.allow)
    check_conditions(
        rates={
            name: 1 if rate_max is None else rate_max
            for name, rate_max in zip(RATES, map(application.rate_max, Purpose), strict=True)
        },
        waiting_days=1 if application.waiting_days_max is None else application.waiting_days_max,
        wait=application.wait_s,
        window=application.window_s,
    )
    for key in application.appkeys:
        _check_key(key)
    check_time(application.created_ms)


def _check_key(key: AppKey) -> None:
    if not key.master:
        check_appkey(key.appkey)
    elif (
        key.appkey
        or ID.fullmatch(key.id) is None
        or ID.fullmatch(key.master) is None
        or KEY_END.fullmatch(key.end) is None
        or len(key.sealed) != SEALED_BYTES
    ):
        raise InvalidSetting("what is sealed of an appkey is not what was sealed")
    check_time(key.created_ms, key.not_before_ms, key.not_after_ms or 0)


def _check_token(token: Token) -> None:
    check_plain_name("a token's", token.name)
    if _DIGEST.fullmatch(token.digest) is None:
        raise InvalidSetting("a token's digest is 64 hexadecimal digits")
    if token.sdkappid is not None:
        check_sdkappid(token.sdkappid)
    check_time(token.created_ms, token.not_after_ms or 0)
    key = token.signature
    if key is not None and (
        key.key
        or ID.fullmatch(key.id) is None
        or ID.fullmatch(key.master) is None
        or not SEALED_AROUND < len(key.sealed) <= SEALED_AROUND + limits.SIGNATURE_KEY_CHARS_MAX
    ):
        raise InvalidSetting("what is sealed of a signature key is not what was sealed")


def _check_pair(pair: SecretPair) -> None:
    check_secret_id(pair.id)
    if (
        pair.secret_key
        or ID.fullmatch(pair.key_id) is None
        or ID.fullmatch(pair.master) is None
        or len(pair.sealed) != SEALED_SECRET_BYTES
    ):
        raise InvalidSetting("what is sealed of a secret key is not what was sealed")
    check_granted(pair.sdkappids)
    check_time(pair.created_ms)


def check_time(*times_ms: int) -> None:
    """Refuse what is no moment of the calendar, in Unix milliseconds."""
    if not all(0 <= at_ms // 1000 <= limits.REPLY_TIME_S_MAX for at_ms in times_ms):
        raise InvalidSetting("a time is a moment before the year 10000")


def check_conditions(
    *, rates: Mapping[str, int], waiting_days: int, wait: int, window: int
) -> None:
    """Refuse numbers that are out of bounds; each is named in the words of commands."""
    for name, rate in rates.items():
        if not 0 <= rate <= limits.RATE_MAX:
            raise InvalidSetting(f"{name} is a number from 0 to {limits.RATE_MAX}")
    if not 0 <= waiting_days <= limits.WAITING_DAYS_MAX:
        raise InvalidSetting(f"waiting_days is a number from 0 to {limits.WAITING_DAYS_MAX}")
    if not 0 <= wait <= limits.PULL_WAIT_S_MAX:
        raise InvalidSetting(f"wait is a number from 0 to {limits.PULL_WAIT_S_MAX}")
    if not limits.WINDOW_S_MIN <= window <= limits.SKEW_S_MAX:
        raise InvalidSetting(
            f"window is a number from {limits.WINDOW_S_MIN} to {limits.SKEW_S_MAX}"
        )


def check_sdkappid(sdkappid: int) -> int:
    """The number itself, if an application can have it: some clients hold it in 31 bits."""
    if not 1 <= sdkappid <= limits.SDKAPPID_MAX:
        raise InvalidSetting(f"an sdkappid is a number from 1 to {limits.SDKAPPID_MAX}")
    return sdkappid


def check_name(name: str) -> str:
    """The name itself, without blanks around it, if it can be shown on one line."""
    name = name.strip()
    if len(name) > limits.APPLICATION_NAME_CHARS_MAX or not name.isprintable():
        raise InvalidSetting(
            f"a name is up to {limits.APPLICATION_NAME_CHARS_MAX} printable characters"
        )
    return name


def check_appkey(appkey: str) -> str:
    """The key itself, if it is one: the signature takes its characters as they are."""
    if APPKEY.fullmatch(appkey) is None:
        raise InvalidSetting(
            f"an appkey is {limits.APPKEY_CHARS} hexadecimal digits, without blanks around them"
        )
    return appkey


def check_secret_id(secret_id: str) -> str:
    """The SecretId itself, if it is one."""
    if SECRET_ID.fullmatch(secret_id) is None:
        raise InvalidSetting(f"a SecretId is AKID and {limits.SECRET_CHARS} letters and digits")
    return secret_id


def check_secret_key(secret_key: str) -> str:
    """The SecretKey itself, if it is one: it is signed with as it is."""
    if SECRET_KEY.fullmatch(secret_key) is None:
        raise InvalidSetting(
            f"a SecretKey is {limits.SECRET_CHARS} letters and digits, without blanks around them"
        )
    return secret_key


def check_granted(sdkappids: Sequence[int]) -> tuple[int, ...]:
    """The numbers of applications that one pair may read: some, each once."""
    numbers = tuple(sorted({check_sdkappid(sdkappid) for sdkappid in sdkappids}))
    if not 1 <= len(numbers) <= limits.PAIR_APPLICATIONS_MAX:
        raise InvalidSetting(
            f"a secret key pair is for 1 to {limits.PAIR_APPLICATIONS_MAX} applications"
        )
    return numbers


def check_signature_key(key: str) -> str:
    """The key itself, if a gateway can sign with it."""
    if SIGNATURE_KEY.fullmatch(key) is None:
        raise InvalidSetting(
            f"a signature key is 1 to {limits.SIGNATURE_KEY_CHARS_MAX} letters, digits or signs of"
            " ASCII, without blanks, as the gateway shows it"
        )
    return key


def check_signature_scheme(scheme: str) -> str:
    """The name of a scheme itself, if there is one, or ""."""
    if scheme and scheme not in SCHEMES:
        raise InvalidSetting(f"a signature scheme is one of {', '.join(SCHEMES)}")
    return scheme


def check_plain_name(whose: str, name: str) -> str:
    """The name itself, if a token or a rule can have it; `whose` is what the error begins with."""
    if PLAIN_NAME.fullmatch(name) is None:
        raise InvalidSetting(
            f"{whose} name is 1 to 64 letters, digits, dots, dashes or underscores,"
            " and starts with a letter or digit"
        )
    return name


def check_networks(networks: Iterable[str]) -> tuple[str, ...]:
    """Networks in their usual spelling.

    Raises:
        InvalidSetting: one is no CIDR.
    """
    try:
        return tuple(str(network_of(network)) for network in networks)
    except ValueError as error:
        raise InvalidSetting(
            "an allowed network is an address or a CIDR such as 192.0.2.0/24 or 2001:db8::/32"
        ) from error


def token_digest(secret: str) -> str:
    """What is kept of a token: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()
