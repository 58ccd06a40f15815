"""What shall happen in the emulator: a TOML file, checked member by member.

Every member has a default, so that an empty file is a scenario: no traffic, and each send is
delivered a second later. The reference of the format is docs/reference/emulator.md; an example is
example.toml beside this file.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from pullstatus import limits, toml
from pullstatus.client.route import check_address
from pullstatus.emulator.carriers import (
    DELIVERED,
    GROUPS,
    Receipt,
    group_codes,
    make_reply,
    make_status,
    receipt_of,
)
from pullstatus.emulator.faults import Fault
from pullstatus.emulator.sms import Template
from pullstatus.errors import InvalidRecord, InvalidSetting
from pullstatus.files import read_whole
from pullstatus.records import Record, encode

__all__ = [
    "APPKEY",
    "SDKAPPID",
    "SECRET_ID",
    "SECRET_KEY",
    "Rule",
    "Scenario",
    "convert",
    "example",
    "parse_scenario",
    "read_scenario",
]

T = TypeVar("T")

SDKAPPID: Final = 1400006666
APPKEY: Final = "5f03a35d00ee52a21327ab048186a2c4"
"""Of the documented example, so it is no secret."""

SECRET_ID: Final = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE"  # noqa: S105 - likewise of an example
SECRET_KEY: Final = "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"  # noqa: S105 - likewise

Share = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(ge=0, le=1000)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
# Not tuple[Seconds, Seconds]: msgspec 0.22 frees the wrong memory when such a one stands beside a
# number with bounds.
Delay = Seconds | Annotated[tuple[Seconds, ...], Meta(min_length=2, max_length=2)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Code = Annotated[int, Meta(ge=1, le=4_294_967_295)]


def draw_s(delay_s: Delay, chance: random.Random) -> float:
    """A delay, drawn from its range if it is one."""
    return chance.uniform(delay_s[0], delay_s[1]) if isinstance(delay_s, tuple) else delay_s


def _check_delay(delay_s: Delay) -> None:
    if isinstance(delay_s, tuple) and delay_s[0] > delay_s[1]:
        raise ValueError("delay_s must be a number of seconds, or [from, to]")


def _check_status(code: str, description: str) -> None:
    status = make_status(Receipt(code, description), *_SOMEBODY, "1", 0)
    _check_record(status, "description", {"errmsg": "code"})


def _check_reply(member: str, text: str, sign: str = "") -> None:
    _check_record(make_reply(text, *_SOMEBODY, sign, 0), member)


def _check_record(
    record: Record, member: str, others: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Refuse now what no record can say, and not when one is due.

    Args:
        member: whose fault it is, unless it is that of one of the `others`, by the record's names.
    """
    try:
        encode(record)
    except InvalidRecord as error:
        raise ValueError(f"{others.get(error.member, member)} {error.fix}") from None


_SOMEBODY: Final = ("86", "13800000000")


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file: no member that nobody reads."""


class ApplicationPart(_Part, frozen=True):
    """`[application]`, and each of `[[applications]]`: who may call."""

    sdkappid: Annotated[int, Meta(ge=1, le=limits.SDKAPPID_MAX)] = SDKAPPID
    appkey: Annotated[str, Meta(pattern=f"^[0-9a-fA-F]{{{limits.APPKEY_CHARS}}}$")] = APPKEY


class SecretPart(_Part, frozen=True):
    """`[secret]`: what calls of API 3.0 are signed with, for all applications.

    Attributes:
        unsigned_payload: whether a body may be left unsigned.
        v1: whether the older way to sign is good.
    """

    id: Annotated[str, Meta(pattern=f"^AKID[0-9a-zA-Z]{{{limits.SECRET_CHARS}}}$")] = SECRET_ID
    key: Annotated[str, Meta(pattern=f"^[0-9a-zA-Z]{{{limits.SECRET_CHARS}}}$")] = SECRET_KEY
    unsigned_payload: bool = False
    v1: bool = False


class Traffic(_Part, frozen=True):
    """`[traffic]`: records that come by themselves."""

    statuses_per_s: Rate = 0.0
    replies_per_s: Rate = 0.0
    statuses_at_start: Count = 0
    replies_at_start: Count = 0


class Failure(_Part, frozen=True):
    """`[[outcomes.failures]]`: a code, or any code of a group, and how often it comes."""

    code: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    group: str | None = None
    description: str | None = None
    weight: Annotated[float, Meta(gt=0, le=1_000_000)] = 1.0

    def __post_init__(self) -> None:
        if (self.code is None) == (self.group is None):
            raise ValueError("either code or group must say how it fails")
        if self.group is not None and self.group not in GROUPS:
            raise ValueError(f"group must be one of {', '.join(GROUPS)}")
        if self.code == DELIVERED:
            raise ValueError(f"code {DELIVERED} is no failure; see outcomes.delivered")
        _check_status(self.code or "1", self.description or "")

    def receipt(self, chance: random.Random) -> Receipt:
        """What the carrier says."""
        code = self.code
        if code is None:
            assert self.group is not None
            code = chance.choice(group_codes(self.group))
        return receipt_of(code, self.description)


ANY_FAILURE: Final = tuple(Failure(group=group) for group in GROUPS)


class Outcomes(_Part, frozen=True):
    """`[outcomes]`: what becomes of an SMS, sent or made up."""

    delivered: Share = 1.0
    failures: tuple[Failure, ...] = ANY_FAILURE

    def __post_init__(self) -> None:
        if self.delivered < 1 and not self.failures:
            raise ValueError("failures must say what becomes of those that are not delivered")

    def receipt(self, chance: random.Random) -> Receipt:
        """What the carrier says of the next SMS."""
        if chance.random() < self.delivered:
            return receipt_of(DELIVERED)
        return self.failure(chance)

    def failure(self, chance: random.Random) -> Receipt:
        """What the carrier says of one that does not arrive; any reason, if none is to be drawn."""
        failures = self.failures or ANY_FAILURE
        weights = [failure.weight for failure in failures]
        [failure] = chance.choices(failures, weights)
        return failure.receipt(chance)


class Sends(_Part, frozen=True):
    """`[sends]`: how sends are answered, and when their statuses come.

    Attributes:
        delay_s: until the delivery status is there; [from, to] for a time between. With 0 it is
            there before the send is answered.
        sign: goes in front of what has no signature.
        signs: the approved signatures; empty: any.
        callback: where statuses and replies of sends are pushed, instead of waiting to be pulled.
    """

    delay_s: Delay = 1.0
    sign: str = "Example"
    signs: tuple[str, ...] = ()
    callback: Annotated[str, Meta(pattern="^https?://[^/]+/")] | None = None

    def __post_init__(self) -> None:
        _check_delay(self.delay_s)
        if self.callback is not None:
            check_address(self.callback, "callback")
        _check_reply("sign", "", self.sign)
        for place, sign in enumerate(self.signs):
            _check_reply(f"signs[{place}]", "", sign)


class Replies(_Part, frozen=True):
    """`[replies]`: what people write back.

    Attributes:
        share: how many of the delivered SMS are answered.
        delay_s: from the delivery status to the reply; [from, to] for a time between.
        texts: one is chosen each time.
    """

    share: Share = 0.0
    delay_s: Delay = 1.0
    texts: Annotated[tuple[str, ...], Meta(min_length=1)] = (
        "TD",
        "1",
        "OK",
        "收到，谢谢",
        "好的 👍",
    )

    def __post_init__(self) -> None:
        _check_delay(self.delay_s)
        for place, text in enumerate(self.texts):
            _check_reply(f"texts[{place}]", text)


class Rule(_Part, frozen=True):
    """`[[rules]]`: what becomes of sends to some numbers, instead of chance; the first that fits.

    Attributes:
        mobile: a number without its nationcode; with "*" at its end all that begin so.
        result: the send is refused with this code.
        errmsg: the text of the refusal.
        code: the receipt's code; DELIVRD for success.
        description: the receipt's text.
        delay_s: as in `[sends]`.
        reply: what the person writes back.
    """

    mobile: Annotated[str, Meta(pattern=r"^[0-9]*\*?$", min_length=1)]
    result: Code | None = None
    errmsg: str | None = None
    code: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    description: str | None = None
    delay_s: Delay | None = None
    reply: str | None = None

    def __post_init__(self) -> None:
        receipt = (self.code, self.description, self.delay_s, self.reply)
        if self.result is not None and any(member is not None for member in receipt):
            raise ValueError("result refuses the send, so nothing comes of it later")
        if self.result is None and self.errmsg is not None:
            raise ValueError("errmsg is the text of a refusal and needs result")
        if self.description is not None and self.code is None:
            raise ValueError("description needs code")
        if self.delay_s is not None:
            _check_delay(self.delay_s)
        _check_status(self.code or "1", self.description or "")
        _check_reply("reply", self.reply or "")

    def fits(self, mobile: str) -> bool:
        """Whether it is about this number."""
        if self.mobile.endswith("*"):
            return mobile.startswith(self.mobile[:-1])
        return mobile == self.mobile

    def receipt(self) -> Receipt | None:
        """What the carrier says; None leaves it to chance."""
        if self.code is None:
            return None
        return receipt_of(self.code, self.description)


class Scenario(_Part, frozen=True):
    """A whole file.

    Attributes:
        seed: makes chance repeat itself: sids, outcomes, faults with a probability.
        application: the one that is meant where none is named.
        applications: others beside it.
        secret: reads all of them.
        faults: armed at the start.
    """

    seed: int | None = None
    application: ApplicationPart = ApplicationPart()
    applications: Annotated[
        tuple[ApplicationPart, ...], Meta(max_length=limits.EMULATED_APPLICATIONS_MAX)
    ] = ()
    secret: SecretPart = SecretPart()
    traffic: Traffic = Traffic()
    outcomes: Outcomes = Outcomes()
    sends: Sends = Sends()
    replies: Replies = Replies()
    templates: tuple[Template, ...] = ()
    rules: tuple[Rule, ...] = ()
    faults: Annotated[tuple[Fault, ...], Meta(max_length=limits.FAULTS_MAX)] = ()

    def __post_init__(self) -> None:
        sdkappids = [application.sdkappid for application in self.all_applications]
        if len(set(sdkappids)) < len(sdkappids):
            raise ValueError("applications must have different sdkappids")
        numbers = [template.id for template in self.templates]
        if len(set(numbers)) < len(numbers):
            raise ValueError("templates must have different ids")

    @property
    def all_applications(self) -> tuple[ApplicationPart, ...]:
        """Who may call."""
        return (self.application, *self.applications)

    def chance(self, of: str) -> random.Random:
        """A source of chance for one purpose, so that none disturbs another."""
        return random.Random(None if self.seed is None else f"{self.seed}/{of}")  # noqa: S311

    def rule(self, mobile: str) -> Rule | None:
        """The rule for sends to this number."""
        return next((rule for rule in self.rules if rule.fits(mobile)), None)


# --- reading --------------------------------------------------------------------------------------


def read_scenario(path: Path) -> Scenario:
    """Read a scenario from a file.

    Raises:
        InvalidSetting: it can't be read, is no TOML, or breaks a rule; the member is named.
    """
    try:
        content = read_whole(path, limits.NAMED_FILE_BYTES_MAX)
        return parse_scenario(content.decode("utf-8-sig"), str(path))
    except OSError as error:
        raise InvalidSetting(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidSetting(f"{path} is not UTF-8") from error


def parse_scenario(text: str, name: str = "scenario") -> Scenario:
    """Read a scenario from TOML.

    Raises:
        InvalidSetting: as for `read_scenario`; `name` begins the text.
    """
    try:
        members = toml.members(text)
    except ValueError as error:
        raise InvalidSetting(f"{name} is no TOML: {error}") from error
    return convert(members, Scenario, name)


def example() -> str:
    """The text of the example scenario."""
    return resources.files(__package__).joinpath("example.toml").read_text(encoding="utf-8")


_AT: Final = re.compile(r"(?s)(.*?)(?: - at `\$\.?(.*)`)?")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`")
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")


# What msgspec knows of a class it learns when it first meets it, and crashes if a second thread
# meets it meanwhile (0.22): so here, and not in the thread of a test or of an emulator.
_KNOWN: Final = msgspec.json.Decoder(Scenario)


def convert(value: object, to: type[T], name: str) -> T:
    """Turn what a parser returned into one of our structs.

    Raises:
        InvalidSetting: it does not fit. The text is `name`, the member as a path (`faults[0].call`)
            and what is wrong with it.
    """
    try:
        return msgspec.convert(value, to)
    except msgspec.ValidationError as error:
        found = _AT.fullmatch(str(error))
        assert found is not None
        fault, member = found[1], found[2] or ""
        for pattern, what in (
            (_UNKNOWN, "is no member of a scenario or fault"),
            (_MISSING, "is missing"),
        ):
            if named := pattern.fullmatch(fault):
                member, fault = f"{member}.{named[1]}".lstrip("."), what
                break
        else:
            fault = fault[:1].lower() + fault[1:]
        raise InvalidSetting(
            f"{name}: {member}: {fault}" if member else f"{name}: {fault}"
        ) from None
