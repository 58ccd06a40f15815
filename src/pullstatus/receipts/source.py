"""A source: how one gateway's callbacks are read and answered, as data.

    name = "yunpian"
    items = "form.sms_status"        # where the reports are
    [status]                         # what is a delivery status, and which member says what
    id = "sid"
    state = "report_status"
    states = { SUCCESS = "SUCCESS", FAIL = "FAIL" }
    [answer]                         # what its sender takes for success
    body = "SUCCESS"

`gateways/*.toml` are ours; operators add their own, in the same form. What a row can't say is a
named function in a table here or in `times`: a row has no code. Pure.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Annotated, Final, Literal, get_args

import msgspec

from pullstatus import limits, toml
from pullstatus.errors import InvalidSetting
from pullstatus.receipts.reports import State
from pullstatus.receipts.signatures import SCHEMES
from pullstatus.receipts.text import CODINGS

__all__ = [
    "Answer",
    "PartKeys",
    "ReplyKeys",
    "Source",
    "StatusKeys",
    "builtin",
    "builtin_text",
    "read_source",
]

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")

Keys = str | tuple[str, ...]
"""The name of what says something, or several: the first that is there and not empty counts.

In JSON dots lead into objects: `status.name`. Behind `receipt.` stand the parts of an SMPP receipt:
`receipt.id`, `receipt.stat`, `receipt.err`, `receipt.text`. What a plus joins is read as one:
`base+extend`."""

Form = Literal["utc8", "utc", "smpp", "rfc2822"]


class _Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is read of a report of either kind: which members say what.

    Attributes:
        when: what is there in such a report, and only in such; "": all are. A reply that is told by
            its text may have none in it.
        unless: what is not.
        number: the handset.
        nationcode: its calling code, where that stands apart.
        to: our number, or short code.
        id: the gateway's own.
        time, form: its time, and how that is written; none: it is the time of arrival.
        numbers: "international" if each begins with its calling code, "national" if none does
            unless it has a plus.
    """

    number: Keys = ()
    nationcode: Keys = ()
    when: Keys = ()
    unless: Keys = ()
    to: Keys = ()
    id: Keys = ()
    time: Keys = ()
    form: Form = "utc8"
    numbers: Literal["international", "national"] = "international"


class PartKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which members say which part of a message it is."""

    reference: Keys
    count: Keys
    number: Keys


class StatusKeys(_Keys, frozen=True, forbid_unknown_fields=True):
    """What is read of a delivery status.

    Attributes:
        sid, ext: an echo of ours.
        state: what became of it, by `states`, in which no name has capitals: those of gateways
            count for nothing.
        otherwise: of a state that is not among them; none: it is not read.
        errmsg: the code; none: the state as the gateway says it.
        errmsgs: what stands for some of these, as `states` has names: of one word of which there
            are several spellings the one by which it is counted.
        description: words for it.
        part: members that say of which part of a message it is, where each has a status of its own;
            the reference is of one message alone.
        receipt: what holds an SMPP receipt, whose parts can be named.
    """

    sid: Keys = ()
    ext: Keys = ()
    state: Keys = ()
    states: dict[str, State] = {}
    otherwise: State | None = None
    errmsg: Keys = ()
    errmsgs: dict[str, str] = {}
    description: Keys = ()
    part: PartKeys | None = None
    receipt: Keys = ()


class ReplyKeys(_Keys, frozen=True, forbid_unknown_fields=True):
    """What is read of a reply.

    Attributes:
        text: what was written; of bytes, in `coding`.
        hexadecimal: `text` is bytes in hexadecimal digits.
        coding: one of `text.CODINGS`.
        codings: what says it by SMPP's number.
        charset: what says it by the name of a charset, which comes first.
        udh: the header before the text, as bytes: it says which part it is.
        sign: the SMS signature.
        extend: what stands behind our number.
        part: members that say which part it is.
    """

    text: Keys = ()
    hexadecimal: Keys = ()
    coding: str = "utf8"
    codings: Keys = ()
    charset: Keys = ()
    udh: Keys = ()
    sign: Keys = ()
    extend: Keys = ()
    part: PartKeys | None = None


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a sender takes for success.

    Attributes:
        status: of HTTP.
        content_type: of the body; an empty body has none.
        body: to delivery statuses, and to replies if `reply` is none.
        reply, reply_type: to a request of nothing but replies, where that is another.
        refusal: members of JSON that it looks for in a refusal, beside those of RFC 9457. A text
            "{detail}" stands for what is wrong.
    """

    status: Annotated[int, msgspec.Meta(ge=200, le=299)] = 200
    content_type: str = "text/plain; charset=utf-8"
    body: str = ""
    reply: str | None = None
    reply_type: str | None = None
    refusal: dict[str, str | int] = {}

    def refused(self, detail: str) -> dict[str, object]:
        """Its `refusal`."""
        said = self.refusal.items()
        return {name: detail if value == "{detail}" else value for name, value in said}


class Source(msgspec.Struct, frozen=True, eq=False, forbid_unknown_fields=True):
    """How one gateway speaks. Each is equal to itself alone: what is made of it is kept by it.

    Attributes:
        title: its name for people.
        methods: those that it sends.
        items: where its reports are; of several places the first that is there counts, and of
            several fields of a form all that are there. "request": query and form together are one,
            or query and an object of JSON; "body": the JSON that it sends, an array or one object;
            "body.NAME": that member of it; "form.NAME": JSON in that field of a form, perhaps
            encoded twice. A form has no "body", if another place follows.
        each: lists within an item of JSON, by their names with dots between, of which each entry
            is a report with what stands around it; it is read as if the lists were not:
            of "statuses.recipients" there are `statuses.code` and `statuses.recipients`.
        signature: the name of the scheme that it signs by; see `signatures`.
        records: its items are in the form of our records, an array of delivery statuses or one
            reply: those of an application's own token are read by the rules of records, mended
            where one thing can be meant, and keep the members that nobody knows; see `sifting`.
            The keys are for those of a platform's.
        retries: when it tries again, in words, for the documents.
    """

    name: str
    items: Keys
    title: str = ""
    methods: tuple[Literal["GET", "POST"], ...] = ("POST",)
    each: str = ""
    status: StatusKeys | None = None
    reply: ReplyKeys | None = None
    answer: Answer = Answer()
    signature: str = ""
    records: bool = False
    retries: str = ""

    @property
    def places(self) -> tuple[str, ...]:
        """`items`, one or several."""
        return (self.items,) if isinstance(self.items, str) else self.items


_ITEMS: Final = re.compile(r"request|body(\.[^.]+)?|form\.[^.]+")
_EACH: Final = re.compile(r"[^.]+(\.[^.]+){0,3}")


def read_source(text: str, *, new: bool = True) -> Source:
    """A source from TOML.

    Args:
        new: it is not one that a store has: that was good when it was added, and stays so.

    Raises:
        InvalidSetting: it is none; the member and the fix are named.
    """
    if len(text.encode()) > limits.SOURCE_BYTES_MAX:
        raise InvalidSetting(f"a source must have at most {limits.SOURCE_BYTES_MAX} bytes")
    try:
        members = toml.members(text)
    except ValueError as error:
        raise InvalidSetting(f"the source is not TOML: {error}") from None
    try:
        source = msgspec.convert(members, Source)
    except msgspec.ValidationError as error:
        raise InvalidSetting(f"the source does not fit: {error}{_instead(str(error))}") from None
    _check(source)
    if new:
        _check_new(source)
    return source


def _instead(said: str) -> str:
    """What may stand where there is a choice, behind what is said of what does not fit."""
    place = said.partition("`$")[2].rstrip("`")
    if "unknown field" in said:
        return f"; there are {', '.join(_TABLES[place].__struct_fields__)}"
    member = re.sub(r"\[.*", "", place).rpartition(".")[2]
    return f"; must be one of {', '.join(_CHOICES[member])}" if "enum" in said else ""


_TABLES: Final[Mapping[str, type[msgspec.Struct]]] = {
    "": Source,
    ".status": StatusKeys,
    ".reply": ReplyKeys,
    ".reply.part": PartKeys,
    ".status.part": PartKeys,
    ".answer": Answer,
}
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "form": get_args(Form),
    "methods": ("GET", "POST"),
    "numbers": ("international", "national"),
    "otherwise": tuple(State),
    "states": tuple(State),
}


def _check(source: Source) -> None:
    if not NAME.fullmatch(source.name):
        raise InvalidSetting("name must be 1 to 32 small letters, digits and dashes")
    if not source.places or not all(map(_ITEMS.fullmatch, source.places)):
        raise InvalidSetting('items must be "request", "body", "body.NAME" or "form.NAME"')
    if source.each and not _EACH.fullmatch(source.each):
        raise InvalidSetting('each must name lists within an item, like "outer.inner"')
    if source.signature and source.signature not in SCHEMES:
        raise InvalidSetting(f"signature must be one of {', '.join(SCHEMES)}, or left out")
    if source.status is None and source.reply is None:
        raise InvalidSetting("a source needs a table [status], [reply] or both")
    if source.status is not None:
        if not source.status.number or not (source.status.sid or source.status.id):
            raise InvalidSetting("status must say which members are number, and sid or id")
        if not source.status.states:
            raise InvalidSetting("status.states must say what each state is")
        if any(name != name.casefold() for name in source.status.states):
            raise InvalidSetting("status.states must be in small letters: any are taken for them")
        if any(name != name.casefold() for name in source.status.errmsgs):
            raise InvalidSetting("status.errmsgs must be in small letters: any are taken for them")
        if not all(source.status.errmsgs.values()):
            raise InvalidSetting("status.errmsgs must say a code for each")
    if source.reply is not None:
        if not source.reply.number or not (source.reply.text or source.reply.hexadecimal):
            raise InvalidSetting("reply must say which members are number and text")
        if source.reply.coding not in CODINGS:
            raise InvalidSetting(f"reply.coding must be one of {', '.join(CODINGS)}")
    tables = [keys for keys in (source.status, source.reply) if keys is not None]
    if len(tables) == 2 and not any(keys.when or keys.unless for keys in tables):
        raise InvalidSetting(_APART)


_APART: Final = "status.when or status.unless must tell a delivery status from a reply"
_HEADER: Final = re.compile(r"[!-~]+( [!-~]+)*")


def _check_new(source: Source) -> None:
    """What can't be said in HTTP would be read as something else, or as another answer."""
    if not source.methods:
        raise InvalidSetting('methods must have "POST", "GET" or both')
    status = source.status
    if status is not None and source.reply is not None and not (status.when or status.unless):
        raise InvalidSetting(_APART)  # it is asked for first, and would take every reply
    for member, keys in _keys_by_member(source):
        names = (keys,) if isinstance(keys, str) else keys
        if not names or not all(part for name in names for part in name.split("+")):
            raise InvalidSetting(f"{member} must name what is read, with no empty name in it")
    if status is not None and not status.state:
        raise InvalidSetting("status.state must name what says the state")
    answer = source.answer
    if any(isinstance(said, int) and abs(said) > _INTEGER_MAX for said in answer.refusal.values()):
        raise InvalidSetting(f"answer.refusal must have no number beyond {_INTEGER_MAX:,}")
    for member in ("content_type", "reply_type"):
        value = getattr(answer, member)
        if value is not None and not _HEADER.fullmatch(value):
            raise InvalidSetting(f"answer.{member} must be ASCII that can be seen, on one line")
    if answer.status in _BODILESS and (answer.body or answer.reply):
        raise InvalidSetting(
            f"answer.body and answer.reply must be empty: an answer of {answer.status} has none"
        )


_BODILESS: Final = (204, 205)
_INTEGER_MAX: Final = 2**53  # beyond, readers of JSON read another one (RFC 8259, 6)


def _keys_by_member(source: Source) -> Iterator[tuple[str, Keys]]:
    """What a source reads, by where it says so; what it leaves out is not told."""
    tables = {
        "status": source.status,
        "reply": source.reply,
        "reply.part": source.reply and source.reply.part,
        "status.part": source.status and source.status.part,
    }
    for name, table in tables.items():
        for field in msgspec.structs.fields(table) if table is not None else ():
            keys = getattr(table, field.name)
            if field.type == Keys and (keys or field.required):
                yield f"{name}.{field.name}", keys


@functools.cache
def builtin() -> Mapping[str, Source]:
    """The sources that are ours, by name."""
    folder = files("pullstatus.receipts") / "gateways"
    found = [
        read_source(each.read_text(encoding="utf-8"))
        for each in folder.iterdir()
        if each.name.endswith(".toml")
    ]
    return {source.name: source for source in sorted(found, key=lambda source: source.name)}


def builtin_text(name: str) -> str:
    """The text of a source of ours, which is there, to make one's own from."""
    return (files("pullstatus.receipts") / "gateways" / f"{name}.toml").read_text(encoding="utf-8")
