"""Reads what a gateway sends, as its source says: requests in, reports out. Pure.

    request  ->  items            where they are: the request itself, its JSON, a field of its form
    item     ->  members          by name, as text, whatever type they have there
    members  ->  report           by the keys of the source

Items of JSON are read many at a time, where a `plan` can; here each is read by itself.

Nothing is refused. An item that can't be read is `Unread`, and those beside it are read. Numbers
stay as they are written, so that an id of any length is whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import methodcaller
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from pullstatus import limits
from pullstatus.json import NO_JSON, integer, mend_in_steps, survey
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.parts import Part, headed
from pullstatus.receipts.plan import (
    NESTED_MAX,
    keys_of,
    members_of,
    plan_of,
    whole_number,
    word_of,
)
from pullstatus.receipts.reports import Report, Reports, State, Statuses, receipts_together
from pullstatus.receipts.request import Request, charset_of, recoded
from pullstatus.receipts.sifting import sift_in_steps
from pullstatus.receipts.source import Keys, PartKeys, ReplyKeys, Source, StatusKeys
from pullstatus.receipts.text import (
    NO_CHARSET,
    NO_SIGN,
    coding_named,
    coding_of,
    decoded,
    in_another_charset,
)
from pullstatus.receipts.times import TIMES, plausible
from pullstatus.records import AT_ONCE_BYTES, Kind
from pullstatus.steps import Steps

__all__ = ["read", "read_again", "read_records", "read_usual", "receipt_text"]

_FORMS: Final = ("application/x-www-form-urlencoded", "text/plain")

Members = Mapping[str, bytes]
"""What an item says by name, as bytes of UTF-8; of a query or a form, as it was sent."""


def read(source: Source, request: Request) -> Steps[Reports]:
    """The reports of a request, with what could not be read of it."""
    if request.encoded:
        return _join([_encoded(request)])
    name = ""
    parts = size = 0
    fields: list[Reports] = []
    for items in source.places:
        place, _, name = items.partition(".")
        if fields and place != "form":
            break
        if place == "request":
            return (yield from _read_request(source, request))
        if place == "body":
            if _is_form(request) and items != source.places[-1]:
                continue
            return (yield from _read_body(source, name, request))
        for field in (yield from _values(source, request, name)):
            said = yield from _read_json(source, field, "", request)
            fields.append(said)
            parts += len(said.reports) + len(said.unread)
            if parts > limits.CALLBACK_PARTS_MAX:
                return Reports([], (Unread(_whole(request), _TOO_MANY),))
            size += _size_of(said) if source.each else 0
            if size > limits.SPREAD_BYTES_MAX:
                return Reports([], (Unread(_whole(request), _TOO_MUCH),))
    if fields:
        return Reports(
            [report for each in fields for report in each.reports],
            tuple(_whole_once(unread for each in fields for unread in each.unread)),
        )
    return _join([Unread(_whole(request), f"must have {name}", name)])


def _size_of(said: Reports) -> int:
    """Bytes of the items."""
    unread = sum(len(each.raw) for each in said.unread if each.index is not None)
    return unread + sum(len(report.raw) for report in said.reports)


def _whole_once(unread: Iterable[Unread]) -> Iterator[Unread]:
    """Of those that are all of the request, the first: each field that is no JSON is one."""
    seen = False
    for each in unread:
        if each.index is not None or not seen:
            yield each
        seen = seen or each.index is None


def _read_request(source: Source, request: Request) -> Steps[Reports]:
    pairs = yield from _pairs(source, request)
    raw = _whole(request)
    body = request.body.strip()
    plain = recoded(request) if body and not _is_form(request) else b""
    if plain:
        try:
            text = yield from mend_in_steps(plain)
            pairs = {**pairs, **dict(_flat(text, "", members_of(source)))}
        except NO_JSON:
            return _join([Unread(raw, "must be a form, or a JSON object")])
    if not pairs:
        return _join(
            [Unread(raw, "must have fields with names")] if raw.strip(b"&= \t\r\n") else []
        )
    report = _report(source, pairs, raw, None, request)
    if _is_spoilt(plain, [report]):
        return _join([_no_charset(request)])
    if body and isinstance(report, Report):
        report = msgspec.structs.replace(report, query=request.query)
    return _join([report])


def read_records(request: Request) -> Steps[Receipts]:
    """What a request comes to whose items are records, with what could not be read of it.

    Of that a part is in UTF-8, whatever it came in; the whole is kept as it came.
    """
    if request.encoded:
        return Receipts(Kind.DELIVERY_STATUS, [], [], unread=(_encoded(request),))
    if _has_no_body(request):
        return Receipts(Kind.DELIVERY_STATUS, [], [], unread=(Unread(request.query, _NO_BODY),))
    receipts = yield from sift_in_steps(recoded(request), request.arrived_s)
    unread = [
        msgspec.structs.replace(each, raw=request.body) if each.index is None else each
        for each in receipts.unread
    ]
    return msgspec.structs.replace(receipts, unread=tuple(unread)) if unread else receipts


def read_usual(source: Source, request: Request, nationcode: str | None) -> Receipts | None:
    """The records of a usual POST of delivery statuses that are one application's, read at once.

    They are what `reports.receipts_of` makes of `read`, where nothing is known of any but
    `nationcode`, as `Whose` has it.

    Args:
        request: of some KiB.

    Returns:
        None for what is not usual: `read` has the last word.
    """
    statuses = read_statuses(source, request)
    if statuses is None:
        return None
    return receipts_together(source.name, statuses, nationcode, request.arrived_s)


def read_statuses(source: Source, request: Request) -> Statuses | None:
    """What a usual POST of delivery statuses says, read at once; otherwise as `read_usual`."""
    place, _, member = source.places[0].partition(".")
    plan = plan_of(source)
    is_usual = not (source.each or _is_form(request) or charset_of(request.content_type))
    if plan is None or place != "body" or not is_usual or request.encoded:
        return None
    text = request.body.strip()
    if text[:1] != (b"{" if member else b"["):
        return None
    try:
        items = bytes(_decode_members(text)[member]) if member else text
    except (*NO_JSON, KeyError):
        return None
    statuses = plan.statuses(items, request.arrived_s)
    if statuses is None or _brackets(text) < limits.JSON_DEPTH_MAX + len(statuses.ids):
        return statuses  # each has one, so that none can have many
    cut = _cut(text, member)
    return statuses if cut is not None and _is_plain(text, cut) else None


def read_again(source: Source, request: Request) -> Steps[Reports]:
    """The same of items that were put aside, as `Report.raw` has them, with commas between."""
    if "request" in source.places and request.body[:1] != b"{":
        return (yield from read(source, request))
    return (yield from _read_json(source, b"[" + request.body + b"]", "", request))


# --- items ----------------------------------------------------------------------------------------

_decode_raw: Final = msgspec.json.Decoder(msgspec.Raw).decode
_decode_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode
_decode_text: Final = msgspec.json.Decoder(str).decode
_TOGETHER: Final = 100


_NO_BODY: Final = "must have a body, which what stands in the address is not"


def _encoded(request: Request) -> Unread:
    return Unread(request.body or request.query, "must come without Content-Encoding")


def _has_no_body(request: Request) -> bool:
    """Whether what it says, if anything, was said where nobody reads it."""
    return bool(request.query and not request.body.strip())


def _whole(request: Request) -> bytes:
    """All that it says: the body, or what stands in the address where there is none."""
    return request.query if _has_no_body(request) else request.body


def _read_body(source: Source, member: str, request: Request) -> Steps[Reports]:
    if _has_no_body(request):
        return _join([Unread(request.query, _NO_BODY)])
    return (yield from _read_json(source, recoded(request), member, request))


def _read_json(source: Source, body: bytes, member: str, request: Request) -> Steps[Reports]:
    """What JSON says; what is none is kept with all of the request, as it came, to be read again.

    Args:
        body: that of the request, in UTF-8, or a field of it.
    """
    plain = yield from _unwrapped(body)
    text = yield from mend_in_steps(plain)
    text = text.strip()
    if not text:
        return Reports([])
    raw = _whole(request)
    usual = len(text) <= AT_ONCE_BYTES and text[:1] == (b"{" if member else b"[")
    try:
        items = _cut(text, member) if usual else None
        if items is None or not _is_plain(text, items):
            shape = yield from survey(text, limits.CALLBACK_PARTS_MAX)
            if shape.deep or shape.parts > limits.CALLBACK_PARTS_MAX:
                return Reports([], (Unread(raw, _TOO_MANY),))
            items = _cut(text, member)
            yield
    except KeyError:
        return Reports([], (Unread(raw, f"must have {member}", member),))
    if items is None:
        return Reports([], (Unread(raw, "must be JSON"),))
    kept = said = items
    if source.each:
        pairs = yield from _spread(items, source.each)
        if pairs is None:
            return Reports([], (Unread(raw, _TOO_MUCH),))
        kept, said = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if len(kept) > limits.CALLBACK_PARTS_MAX:
        return Reports([], (Unread(raw, _TOO_MANY),))
    reports = yield from _read_items(source, kept, said, request)
    return _join([_no_charset(request)]) if _is_spoilt(plain, reports.reports) else reports


_TOO_MANY: Final = f"must be JSON, of at most {limits.CALLBACK_PARTS_MAX:,} parts"
_SPREAD_MIB: Final = limits.SPREAD_BYTES_MAX // 2**20
_TOO_MUCH: Final = f"{_TOO_MANY}, and of at most {_SPREAD_MIB} MiB with what they share in each"


def _is_spoilt(body: bytes, reports: Iterable[Report | Unread]) -> bool:
    """Whether the text of a reply is lost, since nothing names the charset of the body."""
    if body.isascii():
        return False
    replies = (each for each in reports if isinstance(each, Report) and each.kind is Kind.REPLY)
    return any(NO_SIGN in reply.text for reply in replies) and in_another_charset(body)


def _no_charset(request: Request) -> Unread:
    return Unread(_whole(request), NO_CHARSET, kind=Kind.REPLY)


def _cut(text: bytes, member: str) -> list[bytes] | None:
    """The items, each as it came; None if they aren't JSON; KeyError: there is no such member."""
    try:
        if member and text[:1] == b"{":
            text = bytes(_decode_members(text)[member])
        raws = _decode_raws(text) if text[:1] == b"[" else [_decode_raw(text)]
        return list(map(bytes, raws))
    except NO_JSON:
        return None


def _is_plain(text: bytes, items: list[bytes]) -> bool:
    """Whether a glance shows that it is neither nested too deep nor of too many parts."""
    if len(text) > limits.CALLBACK_PARTS_MAX and text.count(b",") >= limits.CALLBACK_PARTS_MAX:
        return False
    left = limits.JSON_DEPTH_MAX - _brackets(text)
    if left + len(items) > 0 and all(map(_is_object, items)):
        return True  # each has one, so that none can have many
    inner = list(map(_brackets, items))
    return left + sum(inner) >= max(inner, default=0)


_is_object: Final = methodcaller("startswith", b"{")


def _brackets(text: bytes) -> int:
    lists = text.count(b"[") if b"[" in text[1:] else text[:1] == b"["  # which is the usual
    return text.count(b"{") + lists


def _read_items(
    source: Source, items: list[bytes], said: list[bytes], request: Request
) -> Steps[Reports]:
    """What items say.

    Args:
        items: each as it is kept.
        said: as it is read.
    """
    plan = plan_of(source)
    found: list[Report] = []
    unread: list[Unread] = []
    for start in range(0, len(items), _TOGETHER):
        run = slice(start, start + _TOGETHER)
        reports: Sequence[Report | None] = [None] * len(items[run])
        if plan is not None:
            reports = plan.read(items[run], said[run], start, request.arrived_s)
        for index, report in enumerate(reports, start):
            one = report or _read_item(source, items[index], said[index], index, request)
            if isinstance(one, Unread):
                unread.append(one)
            else:
                found.append(one)
        yield
    return Reports(found, tuple(unread))


def _read_item(
    source: Source, item: bytes, said: bytes, index: int, request: Request
) -> Report | Unread:
    try:
        members = dict(_flat(said, "", members_of(source)))
    except NO_JSON:
        return Unread(item, "must be a JSON object", index=index)
    return _report(source, members, item, index, request)


def _unwrapped(body: bytes) -> Steps[bytes]:
    """JSON that was percent-encoded once more than it had to be; a plus may stand for a blank."""
    for _ in range(2):
        if body[:1] in _JSON or b"%" not in body:
            break
        plain = yield from _unquoted(body)
        if plain[:1] in _JSON and b"%20" not in body:
            plain = yield from _unquoted(body.replace(b"+", b" "))
        body = plain
    return body


_JSON: Final = (b"[", b"{")


def _spread(items: Sequence[bytes], each: str) -> Steps[list[tuple[bytes, bytes]] | None]:
    """For each entry of the lists in items an item of its own; None: there is no room for them.

    Returns:
        Each as it is kept, a list of one in its place, and as it is read, without the list.
    """
    found: list[tuple[bytes, bytes]] = []
    room = turn = limits.SPREAD_BYTES_MAX
    for item in items:
        try:
            for pair in _entries(bytes(item), each.split(".")):
                found.append(pair)
                room -= len(pair[0])
                if room < 0 or len(found) > limits.CALLBACK_PARTS_MAX:
                    return None
                if len(found) % _TOGETHER == 0 or turn - room > AT_ONCE_BYTES:
                    turn = room
                    yield
        except NO_JSON:
            found.append((bytes(item), bytes(item)))
            if len(found) % _TOGETHER == 0:
                yield
    return found


def _entries(raw: bytes, path: Sequence[str]) -> Iterator[tuple[bytes, bytes]]:
    members = _decode_members(raw)
    held = bytes(members.get(path[0], b""))
    entries = _decode_raws(held) if held[:1] == b"[" else []
    if not entries:  # a summary, perhaps, which nobody may lose
        yield raw, raw
        return
    for entry in map(bytes, entries):
        several = path[1:] and entry[:1] == b"{"
        for kept, said in _entries(entry, path[1:]) if several else ((entry, entry),):
            yield (
                _encode({**members, path[0]: msgspec.Raw(b"[%b]" % kept)}),
                _encode({**members, path[0]: msgspec.Raw(said)}),
            )


def _flat(raw: bytes, prefix: str, read: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    """Members of an object, those of objects within it under `outer.inner`.

    Args:
        read: those that are; what others say is as it came.
    """
    for last, value in _decode_members(raw).items():
        token, name = bytes(value), prefix + last
        if token == b"null":
            continue
        if token[:1] == b"{" and prefix.count(".") < NESTED_MAX:
            if any(each.startswith(f"{name}.") for each in read):
                yield from _flat(token, f"{name}.", read)
        elif name not in read:
            yield name, token
        elif token[:1] == b'"':
            yield name, _decode_text(token).encode(errors="replace")
        else:
            number = integer(token)
            yield name, token if number is None else str(number).encode()


def _pairs(source: Source, request: Request) -> Steps[Members]:
    """Query and form by name; of a name that comes again, what came first with something in it."""
    pairs: dict[str, bytes] = {}
    for key, value in (yield from _fields(source, request)):
        if key and not pairs.get(key):
            pairs[key] = value
    return pairs


def _values(source: Source, request: Request, name: str) -> Steps[list[bytes]]:
    """What fields of this name say, each once; of none with something in it the first."""
    fields = yield from _fields(source, request)
    found = [value for key, value in fields if key == name]
    return list(dict.fromkeys(filter(None, found))) or found[:1]


def _fields(source: Source, request: Request) -> Steps[list[tuple[str, bytes]]]:
    fields: list[tuple[str, bytes]] = []
    texts = [(request.query, "")]
    if request.body.strip() and _is_form(request):
        texts.append((request.body, _charset_of_form(source, request)))
    for text, charset in texts:
        for piece in text.split(b"&", limits.SOURCE_FIELDS_MAX)[: limits.SOURCE_FIELDS_MAX]:
            name, _, value = piece.partition(b"=")
            key = yield from _unquoted(name.replace(b"+", b" "))
            said = yield from _unquoted(value.replace(b"+", b" "))
            said = decoded(said, charset).encode() if charset else said
            fields.append((key.decode(errors="replace"), said))
    return fields


def _unquoted(text: bytes) -> Steps[bytes]:
    """It without its percent-encoding."""
    if len(text) <= _UNQUOTED_AT_ONCE_BYTES:
        return unquote_to_bytes(text)
    found: list[bytes] = []
    start = 0
    while start < len(text):
        stop = start + _UNQUOTED_AT_ONCE_BYTES
        if stop < len(text) and (cut := text.rfind(b"%", stop - 2, stop)) > 0:
            stop = cut  # no escape stands across
        found.append(unquote_to_bytes(text[start:stop]))
        start = stop
        yield
    return b"".join(found)


_UNQUOTED_AT_ONCE_BYTES: Final = 16 * 1024


def _charset_of_form(source: Source, request: Request) -> str:
    """In which its values are; "": in UTF-8, or the source says of each text what it is in."""
    reply = source.reply
    says = reply is not None and (reply.charset or reply.codings or reply.hexadecimal)
    return "" if says else charset_of(request.content_type)


def _is_form(request: Request) -> bool:
    return request.method == "POST" and request.content_type.lower().startswith(_FORMS)


def _join(found: list[Report | Unread]) -> Reports:
    reports = [each for each in found if isinstance(each, Report)]
    return Reports(reports, tuple(each for each in found if isinstance(each, Unread)))


# --- one report -----------------------------------------------------------------------------------


def _report(
    source: Source, members: Members, raw: bytes, index: int | None, request: Request
) -> Report | Unread:
    for keys in (source.status, source.reply):
        if keys is None or not _is(members, keys):
            continue
        if isinstance(keys, StatusKeys):
            return _status(keys, members, raw, index, request)
        return _reply(keys, members, raw, index, request)
    return Unread(
        raw, "must be a delivery status or a reply, as its source tells them", index=index
    )


def _is(members: Members, keys: StatusKeys | ReplyKeys) -> bool:
    if keys.unless and _bytes(members, keys.unless):
        return False
    return not keys.when or _bytes(members, keys.when) != b"" or _says_nothing(members, keys)


def _says_nothing(members: Members, keys: StatusKeys | ReplyKeys) -> bool:
    """Whether it is a reply that is told by its text, and has one without a letter."""
    told = keys_of(keys.text) if isinstance(keys, ReplyKeys) else ()
    return any(key in members for key in keys_of(keys.when) if key in told)


def _status(
    keys: StatusKeys, members: Members, raw: bytes, index: int | None, request: Request
) -> Report | Unread:
    if keys.receipt:
        parts = receipt_text(_text(members, keys.receipt))
        members = {**members, **{f"receipt.{name}": parts[name].encode() for name in parts}}
    said = word_of(keys, [_text(members, key) for key in keys_of(keys.state)])
    state = keys.states.get(said.casefold(), keys.otherwise)
    kind, member = Kind.DELIVERY_STATUS, _first(keys.state)
    if not said:
        return Unread(raw, "must say what became of the SMS", member, kind, index)
    if state is None:
        return Unread(raw, "is a state that its source does not know", member, kind, index)
    part = None if keys.part is None else _part(keys.part, members)
    code = _text(members, keys.errmsg) or said
    errmsg = keys.errmsgs.get(code.casefold(), code)
    report = Report(
        kind,
        raw,
        index,
        number=_number(members, keys),
        to=_text(members, keys.to),
        id=_text(members, keys.id),
        sid=_text(members, keys.sid),
        ext=_text(members, keys.ext),
        at_s=_time(members, keys, request.arrived_s),
        state=state,
        errmsg=errmsg,
        description=_text(members, keys.description),
        part=None if part is None or part.count == 1 else part,
        code="" if code == errmsg else code,
    )
    if state is not State.INTERMEDIATE and not (report.sid or report.id):
        return Unread(raw, "must tell an id", _first(keys.id or keys.sid), kind, index)
    return report


def _reply(
    keys: ReplyKeys, members: Members, raw: bytes, index: int | None, request: Request
) -> Report | Unread:
    data = _bytes(members, keys.text)
    if keys.hexadecimal:
        if not any(key in members for key in keys_of(keys.hexadecimal)):
            return Unread(raw, "is missing", _first(keys.hexadecimal), Kind.REPLY, index)
        try:
            data = bytes.fromhex(_text(members, keys.hexadecimal))
        except ValueError:
            reason, member = "must be hexadecimal digits", _first(keys.hexadecimal)
            return Unread(raw, reason, member, Kind.REPLY, index)
    part = None if keys.part is None else _part(keys.part, members)
    if keys.udh:
        header = _bytes(members, keys.udh)
        part = headed(header)[0] if header else part
    coding = _coding(keys, members)
    text = decoded(data, coding or keys.coding)
    if not coding and NO_SIGN in text:
        member = _first(keys.charset) or _first(keys.codings)
        return Unread(raw, "must be in a charset that is known", member, Kind.REPLY, index)
    if coding == "utf8" and NO_SIGN in text and in_another_charset(data):
        return Unread(raw, NO_CHARSET, _first(keys.text), Kind.REPLY, index)
    is_cut = part is not None and not part.alone
    return Report(
        Kind.REPLY,
        raw,
        index,
        number=_number(members, keys),
        to=_text(members, keys.to),
        id=_text(members, keys.id),
        at_s=_time(members, keys, request.arrived_s),
        text=text,
        sign=_text(members, keys.sign),
        extend=_text(members, keys.extend),
        part=part,
        data=data if is_cut else b"",
        coding=(coding or keys.coding) if is_cut else "",
    )


def _coding(keys: ReplyKeys, members: Members) -> str:
    """What its bytes are in, by their charset if that is told and known, else by its number.

    Returns:
        "" if the source has it told with each, and this one does not say any that is known.
    """
    if not (keys.charset or keys.codings):
        return keys.coding
    number = integer(_bytes(members, keys.codings))
    named = coding_named(_text(members, keys.charset))
    if named or number is None:
        return named
    return coding_of(number, "") if number else keys.coding


def _part(keys: PartKeys, members: Members) -> Part | None:
    count = integer(_bytes(members, keys.count))
    number = integer(_bytes(members, keys.number))
    reference = _text(members, keys.reference)
    return Part(reference, count, number) if count and number and reference else None


def _number(members: Members, keys: StatusKeys | ReplyKeys) -> str:
    """The handset's number, with its calling code where that stands apart."""
    return whole_number(_text(members, keys.number), _text(members, keys.nationcode))


def _time(members: Members, keys: StatusKeys | ReplyKeys, now_s: int) -> int | None:
    return plausible(TIMES[keys.form](_text(members, keys.time)), now_s)


def _first(keys: Keys) -> str:
    return next(iter(keys_of(keys)), "")


def _bytes(members: Members, keys: Keys) -> bytes:
    for key in keys_of(keys):
        value = members.get(key, b"")
        if not value and "+" in key:
            value = b"".join(members.get(one, b"") for one in key.split("+"))
        if value:
            return value
    return b""


def _text(members: Members, keys: Keys) -> str:
    return _bytes(members, keys).decode(errors="replace").strip()


# --- SMPP receipts --------------------------------------------------------------------------------

_RECEIPT_KEYS: Final = re.compile(
    r"\b(id|sub|dlvrd|submit[ _]date|done[ _]date|stat|err|text):", re.IGNORECASE
)


def receipt_text(text: str) -> dict[str, str]:
    """The parts of a receipt as SMPP centres write it; none if it has no id or no state.

    Each value runs to the next key, the first of two alike counts, and `text` takes the rest. Keys
    are looked for where a receipt may have them, and not far behind.
    """
    found: dict[str, str] = {}
    marks = list(_RECEIPT_KEYS.finditer(text, 0, limits.RECEIPT_CHARS_MAX))
    for place, mark in enumerate(marks):
        name = mark[1].lower().replace("_", " ")
        if name == "text":
            found.setdefault(name, text[mark.end() :].strip())
            break
        end = marks[place + 1].start() if place + 1 < len(marks) else len(text)
        found.setdefault(name, text[mark.end() : end].strip())
    return found if "id" in found and "stat" in found else {}
