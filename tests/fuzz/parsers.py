"""Every reader of what somebody else wrote: how bytes get to it, and what it may raise.

A row of `PARSERS` each. `test_parsers.py` gives them what Hypothesis makes up, as a part of the
suite; `python -m tests.fuzz` what atheris does, guided by which lines were run.

A reader of several texts gets them with a NUL between. What is compared only, and not read, is no
parser: the stamp of a store, signatures, digests of tokens.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import itertools
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import msgspec
import structlog
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from pullstatus.apps import masters
from pullstatus.apps.networks import network_of, plain, proxies_of, site_of, spellings
from pullstatus.apps.settings import read_setting
from pullstatus.cli import recorded
from pullstatus.cli.acts import concerns
from pullstatus.cli.app_import import read_applications
from pullstatus.cli.config import read_config
from pullstatus.cli.periods import Moment
from pullstatus.cli.push.source import Records
from pullstatus.client.errors import ClientError
from pullstatus.client.exchange import Answer
from pullstatus.client.faces import Face, Sent
from pullstatus.client.faces.api3 import Api3
from pullstatus.client.faces.v5 import V5
from pullstatus.client.reading import clock_skew_s, read_pull, retry_after_s
from pullstatus.client.slots import FIRST, SLOT_BYTES, Slots, peek
from pullstatus.client.state import State as ClientState
from pullstatus.consumer.state import State as TargetState
from pullstatus.emulator.scenario import parse_scenario
from pullstatus.emulator.send_sms import SEND_SMS, read_message, read_receivers
from pullstatus.errors import (
    AcknowledgementRefused,
    ActionRefused,
    BodyTooLarge,
    InvalidAuthorization,
    InvalidBody,
    InvalidRecord,
    InvalidSetting,
    Refused,
    SignatureWrong,
    StoreCorrupt,
    StoreRefused,
)
from pullstatus.json import ascii_json, check_json, integer, mend_text
from pullstatus.mailbox.erasing import Number
from pullstatus.mailbox.spelling import forms
from pullstatus.mounts import mount_of, parse_mounts
from pullstatus.receipts import reading
from pullstatus.receipts.batch import read_in_steps
from pullstatus.receipts.reading import read_records
from pullstatus.receipts.reports import Report, Reports, Whose, receipts_of
from pullstatus.receipts.request import Request
from pullstatus.receipts.sends import read_sends_in_steps
from pullstatus.receipts.signatures import SCHEMES, Signed, fault, fault_of_reply
from pullstatus.receipts.source import Source, builtin, read_source
from pullstatus.receipts.tencent import read_strictly
from pullstatus.records import Kind, decode
from pullstatus.records.hours import hour_of
from pullstatus.server.http import address_of_peer, named_application, whose
from pullstatus.server.whole import read_whole
from pullstatus.server.words import check_key, read_repeat, read_wait
from pullstatus.steps import done
from pullstatus.store import (
    NO_TICKET,
    Act,
    ActRow,
    Mailbox,
    Setting,
    check_store_url,
    parse_pull_id,
)
from pullstatus.store.sqlite.pairing import UserVersion
from pullstatus.wire.about import about, read_features
from pullstatus.wire.api3.requests import is_call, read_request, trace_id
from pullstatus.wire.api3.requests import read_proof as read_api3_proof
from pullstatus.wire.api3.signing import Request as SignedRequest
from pullstatus.wire.api3.signing import fits, read_authorization, read_v1, sign_v1
from pullstatus.wire.v5.pull import parse_pull, read_proof
from pullstatus.wire.v5.query import parse_query
from pullstatus.wire.v5.statistics import parse_statistics
from tests.harness import reply, status
from tests.unit.server import api3
from tests.unit.server.api3 import FORM
from tests.unit.server.asgi import APP, SECRET, Served
from tests.unit.server.test_connection import Loop, Peer

__all__ = ["PARSERS", "Parser"]

NOW_S: Final = 1_767_571_200
NOW_HOUR: Final = hour_of(NOW_S * 1000)
SENDS: Final = (
    b'[{"hour":2026010508,"request":3,"success":2,"bill_number":4},{"hour":2026010501,"result":7}]',
    b'[{"hour":2026010508,"result":0,"fee":1,"sid":"8:1"}]',
    b'{"hour":2026010507,"request":1e3,"success":0,"bill_number":-0}\r\n{"hour":2026010506}',
)
STATUS, REPLY = (msgspec.json.encode(record) for record in (status(1), reply(1)))
ODD: Final = (
    rb'{"sid":"\ud800\u00e9","errmsg":null,"mobile":86138,"user_receive_time":1767571200.5}',
    b'\xef\xbb\xbf[{"a":[[{}]],"time":-1e99}]',
    '[{"text":"\u4f60"}]'.encode("utf-16"),
)


class Parser(NamedTuple):
    """One reader.

    Attributes:
        name: of a test, and for `--only`.
        read: gives it bytes; fails in itself if what it made of them breaks a promise.
        refusals: what it may raise; all else is a fault.
        seeds: what it is usually given, and what has been trouble.
        bytes_max: what reaches it at most.
    """

    name: str
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    bytes_max: int = 64 * 1024


# --- HTTP -----------------------------------------------------------------------------------------

HEAD: Final = b"Host: mailbox.test\r\nContent-Length: %d\r\n"
CHUNKED: Final = b"3;a=b\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n"
REQUESTS: Final = (
    b"POST /v5/tlssmssvr/pullstatus?sdkappid=1&random=2 HTTP/1.1\r\n" + HEAD % 2 + b"\r\n{}",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\nGET /readyz HTTP/1.0\r\n\r\n",
    b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    b"POST /read HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" + HEAD % 1 + b"\r\n1",
    b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
)


def connection(data: bytes) -> None:
    """Head, framing and body as they come, in one read and in two."""
    for reads in ((data,), (data[: len(data) // 2], data[len(data) // 2 :])):
        peer = Peer(_loop())
        try:
            with structlog.testing.capture_logs():
                for part in reads:
                    peer.say(part)
                while peer.answer():
                    pass
            written = peer.transport.written
            assert not written or written.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))
            assert b"HTTP/1.1 500" not in written
        finally:
            peer.leave()


@cache
def _loop() -> Loop:
    return Loop()


def calls(data: bytes) -> None:
    """Method, target, a header and a body, a line each, through the whole application."""
    method, target, name, value, body = [*data.split(b"\n", 4), b"", b"", b"", b""][:5]
    headers = [
        (name.decode("latin-1"), value.decode("latin-1")),
        ("authorization", f"Bearer {SECRET}"),
        ("content-type", "application/json"),
    ]
    with structlog.testing.capture_logs():
        answer = _loop().run_until_complete(
            Served(now_ms=lambda: NOW_S * 1000).ask(
                method.decode("latin-1").upper(), target.decode("latin-1"), body, headers
            )
        )
    assert answer is not None
    assert answer.http_status != 500, answer


CALLS: Final = tuple(
    b"\n".join(parts)
    for parts in (
        (b"POST", b"/ingest/%d/replies" % APP.sdkappid, b"idempotency-key", b"k", b"[%b]" % REPLY),
        (b"POST", b"/ingest/%d/delivery-statuses" % APP.sdkappid, b"a", b"b", b"[%b]" % STATUS),
        (b"POST", b"/callbacks/" + SECRET.encode(), b"content-encoding", b"gzip", STATUS),
        (b"POST", b"/v5/tlssmssvr/pullstatus?sdkappid=1&random=2", b"pullstatus-wait", b"1", b"{}"),
        (b"GET", b"/openapi.json", b"accept", b"*/*", b""),
        (b"TRACE", b"/metrics", b"host", b"", b""),
    )
)


def api3_calls(data: bytes) -> None:
    """Method, action, query, a header, its value and a body through the face of API 3.0.

    Without a signature, with one, and with one of version 1: the last two reach what is behind it.
    """
    parts = [*data.split(b"\n", 5), b"", b"", b"", b"", b"", b""]
    method, action, query, name, value = (part.decode("latin-1") for part in parts[:5])
    body = parts[5]
    ours = ("x-tc-action", "x-tc-version", "x-tc-timestamp", "host", "content-type")
    more = {} if name in ours else {name: value}
    by_key = api3.signed(action, body, query=query, method=method, more=more)
    form = api3.form(body.decode("utf-8", "replace"), action)
    bare = {name: value, "x-tc-action": action}
    for way, said, content in ((method, bare, body), (method, by_key, body), ("POST", FORM, form)):
        to = _api3()
        stranger = next(_strangers)  # or they would be answered late
        to.address = f"10.{stranger >> 16 & 255}.{stranger >> 8 & 255}.{stranger & 255}"
        with structlog.testing.capture_logs() as logged:
            answer = _loop().run_until_complete(api3.say(to, said, content, way, query))
        assert answer is not None
        if way == "TRACE":
            continue
        told = api3.response(answer)
        assert told.get("Error", {}).get("Code") != "InternalError", (told, logged)
        assert not any(line.get("exc_info") for line in logged)
        for secret in (api3.KEY, api3.ID):
            assert secret not in str(logged) + answer.content.decode()


@cache
def _api3() -> Served:
    """A server with a pair that may sign in any way, and a store with nothing in it."""
    made = api3.served(unsigned_payload=True, v1=True)
    registry = made.registry
    held = [known.while_set for known in registry.applications.values()]
    held += [known.while_set for known in registry.pairs.values()]
    revisions = {each.name: each.revision for each in held}

    async def nothing(*_: object) -> list[object]:
        return []

    async def setting(name: str) -> Setting:
        return Setting(name, api3.SETTING, revisions[name])

    async def look(*_: object) -> None:
        """No look at a store finds anything, so none has to wait for the next."""

    vars(made.store).update(backlog=nothing, tallies=nothing, setting=setting)
    vars(made.registry).update(look=look, look_for_pair=look)
    return made


_strangers = itertools.count()
API3_CALLS: Final = tuple(
    b"\n".join(parts)
    for parts in (
        (b"POST", b"PullSmsSendStatus", b"", b"idempotency-key", b"k", api3.BODY),
        (b"GET", b"PullSmsReplyStatus", b"SmsSdkAppId=1400006666&Limit=1", b"host", b"a:1", b""),
        (b"POST", b"PullSmsSendStatusByPhoneNumber", b"", b"x-tc-traceid", b"t", api3.QUESTION),
        (b"POST", b"CallbackStatusStatistics", b"", b"x-tc-token", b"", api3.HOURS),
        (b"POST", b"PullSmsSendStatus", b"", b"a", b"b", b"SmsSdkAppId=1400006666&Limit=1"),
        (b"PUT", b"", b"Action=SendStatusStatistics", b"content-type", b"text/plain", b"{}"),
    )
)


def forwarded(data: bytes) -> None:
    """X-Forwarded-For from a proxy that is trusted, and whose request the log then says it is."""
    seen: list[dict[str, Any]] = []

    async def application(scope: Any, _receive: object, _send: object) -> None:  # noqa: ANN401
        seen.append(scope)

    scope: dict[str, Any] = {
        "type": "http",
        "scheme": "http",
        "path": "/",
        "query_string": data,
        "client": ("192.0.2.1", 1),
        "headers": [(b"x-forwarded-for", data), (b"x-forwarded-proto", data)],
    }
    proxied: Any = ProxyHeadersMiddleware(application, trusted_hosts=["192.0.2.1"])
    coroutine = proxied(scope, None, None)
    with contextlib.suppress(StopIteration):
        coroutine.send(None)
    [told] = seen
    address = address_of_peer(told)
    assert len(address) <= 64
    site_of(address)
    named_application(told)
    whose(told)


def addresses(data: bytes) -> None:
    """What is given as an address, a network or a list of proxies."""
    text = data.decode("latin-1")
    plain(text)
    assert len(site_of(text)) <= 64
    for network in proxies_of(text):
        spellings(network)
    network_of(text)


def words(data: bytes) -> None:
    """Headers of a pull: key, reader, acknowledgement, take and wait."""
    key, name, ack, take, wait = [*_texts(data), *[None] * 5][:5]
    parse_pull_id(ack or "")
    for text, read in ((wait, read_wait), (key, check_key)):
        if text:
            with contextlib.suppress(InvalidSetting):
                read(text)
    read_repeat(Mailbox(1, Kind.REPLY), 1, key or None, name or None, ack or None, take or None)


def _texts(data: bytes) -> list[str]:
    return [part.decode("latin-1") for part in data.split(b"\0")]


# --- bodies ---------------------------------------------------------------------------------------


def pull(data: bytes) -> None:
    """The old call: its query, and its body."""
    query, _, body = data.partition(b"\0")
    request = parse_pull(query, body)
    assert request.sdkappid >= 0


def authorization(data: bytes) -> None:
    """The header of a request of API 3.0; what is read of it says the same when it is written."""
    value, _, body = data.partition(b"\0")
    read = read_authorization(value)
    assert read_authorization(read.encode()) == read
    headers = {b"host": b"a:1", b"content-type": b"", b"x-tc-timestamp": body}
    assert not fits(SignedRequest("POST", b"", headers, body), read, SECRET)


def api3_request(data: bytes) -> None:
    """A call of API 3.0 by either signature: all that is read of one, in its order."""
    head, _, body = data.partition(b"\0")
    parts = [*head.split(b"\n"), b"", b"", b""]
    headers = {
        b"host": b"a",
        b"content-type": parts[0],
        b"x-tc-action": parts[1],
        b"x-tc-version": b"2019-07-11" if parts[2] else b"2021-01-11",
        b"x-tc-timestamp": str(NOW_S).encode(),
        b"x-tc-traceid": parts[2],
        b"authorization": AUTHORIZATION.partition(b"\0")[0],
    }
    trace_id(headers)
    if not parts[1]:
        del headers[b"x-tc-action"]
    for method, query in (("POST", b""), ("GET", body)):
        is_call(method, query, headers)
        try:
            request = read_request(method, query, headers, body)
        except (ActionRefused, InvalidAuthorization):
            continue
        reads: tuple[Callable[[], object], ...] = (
            partial(request.prove, SECRET, unsigned_payload=True, v1=True),
            partial(request.check_time, NOW_S),
            request.sdkappid,
            request.limit,
            partial(request.by_number, NOW_S),
            request.hours,
        )
        for read in reads:
            with contextlib.suppress(ActionRefused, SignatureWrong):
                read()
        assert read_api3_proof(request.proof("a-1")) == ("a-1", request.timestamp_s)


def v1_signature(data: bytes) -> None:
    """Parameters of a request that is signed by version 1."""
    texts = data.decode("utf-8", "surrogateescape").split("&")
    parameters = {name: value for name, _, value in (text.partition("=") for text in texts)}
    read_v1(parameters)
    sign_v1("GET", b"a", parameters, SECRET)


def query(data: bytes) -> None:
    """What became of one number, read to its end."""
    request = parse_query(b"sdkappid=1&random=2", data)
    assert request.question().digits.isdigit()


def counts(data: bytes) -> None:
    """A call for counts, read to its end."""
    first, last = parse_statistics(b"sdkappid=1&random=2", data).hours()
    assert first <= last


def send_sms(data: bytes) -> None:
    """The send call of API 3.0, once it was let in."""
    headers = {
        b"content-type": b"application/json",
        b"x-tc-action": SEND_SMS.name.encode(),
        b"x-tc-version": b"2021-01-11",
        b"x-tc-timestamp": str(NOW_S).encode(),
        b"authorization": AUTHORIZATION.partition(b"\0")[0],
    }
    request = read_request("POST", b"", headers, data, actions={SEND_SMS.name: SEND_SMS})
    parameters = request.parameters()
    for receiver in read_receivers(parameters):
        assert receiver.mobile or not receiver.nationcode
    read_message(parameters, request.version)


def batch(kind: Kind, ndjson: bool, data: bytes) -> None:
    """A batch of a gateway; what is taken is JSON that can be read again."""
    for entry in done(read_in_steps(data, kind, ndjson)).entries:
        assert entry.isascii()
        decode(entry, kind)


SIGNED = (
    b"a=1\0x-twilio-signature\0MrFL1z+0P0iUOXjNSg7ZOQmpYAz/04VYVfuh7hzElpY=\0To=1&Body=%E4%BD%A0",
    b"\0x-plivo-signature-v3\0a,b\0Text=1",
    b"\0authorization\0Bearer eyJhbGciOiJIUzI1NiJ9.e30.AAAA\0{}",
    b"b=2&a=1\0authorization\0SDK-HMAC-SHA256 Access=a, SignedHeaders=host, Signature=00\0to=1",
    b"sig=" + b"0" * 32 + b"\0\0\0",
    b'\0\0\0{"_sign":"1"}',
)


def signature(scheme: str, data: bytes) -> None:
    """A callback's query, a header and its value, and its body: a verdict, whatever they are."""
    query, name, value, body = (data.split(b"\0", 3) + [b""] * 4)[:4]
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-plivo-signature-v3-nonce": "1",
        "x-sdk-date": "20251128T090000Z",
        name.decode("latin-1"): value.decode("latin-1"),
    }
    url = f"https://sms.example.com/in/tok/{scheme}?{query.decode('latin-1')}"
    assert fault(scheme, Signed("POST", url, headers, body), "key") != ""
    assert fault_of_reply(scheme, body, "key") != ""


def sends(ndjson: bool, data: bytes) -> None:
    """A report of sends; what is taken of each hour is no less than nothing, and in order."""
    read = done(read_sends_in_steps(data, ndjson, NOW_HOUR))
    assert read.items >= len(read.hours) > 0
    for hour, sent in read.hours.items():
        assert hour <= NOW_HOUR
        assert 0 <= sent.accepted <= sent.requests
        assert sent.billed >= 0


def callback(data: bytes) -> None:
    """A callback, of which nothing is refused, and its strict reading."""
    receipts = done(read_records(Request("POST", b"", "", data, NOW_S)))
    for entry in receipts.entries:
        assert entry.isascii()
        decode(entry, receipts.kind)
    done(read_strictly(data))


def source(source: Source, data: bytes) -> None:
    """A gateway's request: whatever it says is read or told apart, and so when it is read again.

    What is told apart loses nothing: read again, each item says what it said.
    """
    method, content_type, query, body = (data.split(b"\0", 3) + [b""] * 4)[:4]
    kinds = [
        content_type.decode("latin-1"),
        *("application/json", "application/x-www-form-urlencoded"),
    ]
    for kind in kinds:
        request = Request(method.decode("latin-1"), query, kind, body, NOW_S)
        found = done(reading.read(source, request))
        assert all(unread.reason and unread.raw is not None for unread in found.unread)
        _records(source, found)
        for report in found.reports[:4]:
            if source.items == "request":
                continue
            alone = msgspec.structs.replace(request, body=report.raw)
            again = done(reading.read_again(source, alone))
            assert [msgspec.structs.replace(report, index=0)] == again.reports


def _records(source: Source, found: Reports) -> None:
    for kind in Kind:
        those: list[tuple[Report, Whose]] = [
            (report, Whose("86")) for report in found.reports if report.kind is kind
        ]
        receipts = receipts_of(kind, source.name, those, NOW_S)
        for entry in receipts.entries:
            decode(entry, kind)


def source_row(data: bytes) -> None:
    """A row of an operator's."""
    read_source(data.decode("utf-8", "replace"))


def recorded_request(data: bytes) -> None:
    """A request that an operator wrote down."""
    recorded.parse(data, NOW_S)


def json_text(data: bytes) -> None:
    """What all bodies go through: depth, numbers, texts."""
    integer(data)
    mended = mend_text(data)
    ascii_json(mended)
    check_json(data)
    assert ascii_json(data).isascii()


# --- files and settings ---------------------------------------------------------------------------


def push_file(name: str, finished: bool, data: bytes) -> None:
    """A file of `push`, by each way to read it."""
    for kind in Kind:
        file = io.BufferedReader(io.BytesIO(data))
        for line in Records(file, name, None, kind, finished=finished):
            assert isinstance(line.json, bytes)


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pullstatus-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _file(data: bytes) -> Path:
    path = _folder() / "file"
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def configuration(data: bytes) -> None:
    """A configuration file."""
    read_config(_file(data), {"host": str, "port": int, "log-level": str, "insecure": bool})


def state(value_type: type[msgspec.Struct], checked: bool, data: bytes) -> None:
    """A state file, as it is, and with check sums that fit."""
    if checked:
        slots = [_checked(part).ljust(SLOT_BYTES - 1) + b"\n" for part in data.split(b"\0")[:2]]
        data = b"".join(slots)
    path = _file(data)
    decode = msgspec.json.Decoder(value_type).decode
    peek(path, decode)
    Slots(path, decode).close()


def _checked(head: bytes) -> bytes:
    check = blake2b(head + b"}", digest_size=8).hexdigest().encode()
    return b'%b,"check":"%b"}' % (head, check)


STATE_TYPES: Final[dict[str, type[msgspec.Struct]]] = {
    "client": ClientState,
    "target": TargetState,
}
STATES: Final = (
    b'{"number":0,"value":{"url":"http://a","sdkappid":1,"owed":[]}',
    b'{"number":1,"value":{"source":{"url":"a","sdkappid":1,"kind":0},"in_flight":null}\0{"a":1',
    b'[1\0"number"',
    FIRST,
)


def mounts(data: bytes) -> None:
    """/proc/self/mountinfo: names of mounts are whatever somebody called them."""
    mount_of(Path("/var/lib"), parse_mounts(data.decode("latin-1")))


def setting(data: bytes) -> None:
    """A setting of a store that somebody else wrote."""
    name, _, value = data.partition(b"\0")
    read_setting(name.decode("latin-1"), value)


def moment(data: bytes) -> None:
    """A time of a command: of a period, and of acts that are looked for."""
    found = Moment().convert(data.decode("latin-1"), None, None)
    assert isinstance(found, int)


def act(data: bytes) -> None:
    """What an act was done to, of a store that somebody else wrote."""
    told = Act("root", "erase", "", data.decode("utf-8", "replace"), 0, NO_TICKET)
    concerns(ActRow(1, told, b""), 1)


def answer(data: bytes) -> None:
    """What whoever is at the service's address answers a client."""
    head, _, body = data.partition(b"\0")
    said = head.decode("latin-1")
    names = ("pullstatus-waiting", "pullstatus-given", "pullstatus-pull-id", "date", "retry-after")
    headers = dict.fromkeys(names, said)
    read_features(body)
    clock_skew_s(headers, NOW_S)
    retry_after_s(headers)
    faces: tuple[Face, ...] = (V5(1, SECRET), Api3("http://a", 1, "AKID", SECRET))
    for face, kind in itertools.product(faces, Kind):
        call = face.pull(kind, 1, Sent(NOW_S, "1"))
        read_pull(Answer(200, headers, body), call.read, keyed=None, now_s=NOW_S)


def parked(data: bytes) -> None:
    """What nobody could read, looked through for a number."""
    assert forms(data)
    Number("8613800138000").is_in(data)


def scenario(data: bytes) -> None:
    """A scenario of the emulator."""
    parse_scenario(data.decode("utf-8", "replace"))


def pairing(data: bytes) -> None:
    """What the head of a store's file says of its log."""
    number = int.from_bytes(data[:4])
    UserVersion.parse(number)


ANSWERS: Final = (
    b'0\0{"result":0,"errmsg":"ok","type":0,"count":1,"data":[%b]}' % STATUS,
    b'7\0{"result":0,"errmsg":"ok","type":1,"count":1,"data":[%b]}' % REPLY,
    b'a\0{"ActionStatus":"FAIL","ErrorCode":60008,"ErrorInfo":"a"}',
    b'Thu, 01 Jan 1970 00:00:00 GMT\0{"Response":{"Error":{"Code":"A.B","Message":"c"}}}',
    b"0\0" + about("1"),
    b"Thu, 01 Jan 99999999999999999999 00:00:00 GMT\0{}",
)
BODIES: Final = (b"[%b]" % STATUS, REPLY, b"[%b,%b]" % (STATUS, STATUS), STATUS + b"\n", *ODD)
SOURCED: Final = (
    b"GET\0\0dlr=1&from=%2B8613800000001&id=%32&time=1767571200&answer=id%3A1+stat%3ADELIVRD\0",
    b"GET\0\0text=V%DEY%0D&from=1&charset=UTF-16BE&udh=%05%00%03%01%02%01&time=0\0",
    b"POST\0application/x-www-form-urlencoded\0a=1\0from=1&text=%FF&charset=rot13&hex=4f6",
    b"POST\0application/x-www-form-urlencoded\0\0sms_status=%255B%257B%2522sid%2522%253A1%257D%255D",
    *(b"POST\0application/json\0\0" + body for body in (*BODIES, b'{"items":[{"a":{"b":[]}}]}')),
    b'POST\0application/json\0\0{"batch_id":"1","statuses":[{"code":0,"recipients":["1","2"]},{}]}',
    b'POST\0application/json\0\0{"statusReportList":[{"smsMsgId":"1","status":"DELIVRD"}]}',
)
AUTHORIZATION: Final = (
    b"TC3-HMAC-SHA256  Credential=AKIDz8krb/2021-05-11/localhost:8080/tc3_request,"
    b" SignedHeaders=content-type;host, Signature=" + b"0f" * 32 + b"\0001620734188"
)
V1: Final = b"SecretId=AKIDz8krb&Signature=rb/i=&SignatureMethod=HmacSHA256&Limit=1"
API3_REQUESTS: Final = tuple(
    b"\n".join(head) + b"\0" + body
    for *head, body in (
        (b"application/json", b"PullSmsSendStatus", b"", b'{"SmsSdkAppId":"1","Limit":100}'),
        (b"", b"SendStatusStatistics", b"1", b'{"StartDateTime":2021051100,"Limit":0}'),
        (
            b"application/json",
            b"PullSmsReplyStatusByPhoneNumber",
            b"",
            b'{"PhoneNumber":"+8613800000000","BeginTime":1767571200,"Offset":"0","Limit":1}',
        ),
        (
            b"application/x-www-form-urlencoded",
            b"",
            b"",
            V1 + b"&Action=PullSmsSendStatus&Version=2021-01-11&Timestamp=1767571200&Limit=%ff",
        ),
    )
)

BATCH: Final = (InvalidBody, InvalidRecord, BodyTooLarge)
CSV: Final = (
    b"nationcode,mobile,text,sign,time,extend\n86,1,a,b,1,\n",
    b"user_receive_time;nationcode;mobile;report_status;errmsg;description;sid\na;86;1;b;c;d;e\n",
)

PARSERS: Final = (
    Parser("connection", connection, (), REQUESTS, 32 * 1024),
    Parser("whole", read_whole, (), REQUESTS),
    Parser("calls", calls, (), CALLS),
    Parser("forwarded", forwarded, (), (b"198.51.100.7, 10.0.0.1", b"[::1]:80", b"fe80::1%eth0")),
    Parser(
        "addresses",
        addresses,
        (InvalidSetting, ValueError),
        (b"10.0.0.7, 10.1.0.0/16", b"::ffff:1.2.3.4/120", b"fe80::1%a"),
        1024,
    ),
    Parser(
        "words",
        words,
        (InvalidSetting, AcknowledgementRefused),
        (b"key\0\0\0\0007", b"\0reader-1\0001-1-7\0000\000050", b"\0reader\0001-1-7-2"),
    ),
    Parser(
        "pull",
        pull,
        (Refused,),
        (b'sdkappid=1&random=%37\0{"sig":"00","time":1457336869,"type":0,"max":10}',),
    ),
    Parser(
        "query",
        query,
        (Refused,),
        (
            b'{"sig":"0","time":1,"mobile":"+861","nationcode":"0086","begin_time":7,"end_time":"8"}',
        ),
    ),
    Parser(
        "counts",
        counts,
        (Refused,),
        (b'{"sig":"00","time":1,"begin_date":2016090800,"end_date":"2016090823"}',),
    ),
    *(
        Parser(f"batch-{kind.path}-{form}", partial(batch, kind, form == "ndjson"), BATCH, BODIES)
        for kind, form in itertools.product(Kind, ("json", "ndjson"))
    ),
    *(
        Parser(f"sends-{form}", partial(sends, form == "ndjson"), BATCH, (*SENDS, *BODIES))
        for form in ("json", "ndjson")
    ),
    Parser("callback-tencent", callback, (InvalidBody, InvalidRecord), BODIES),
    *(
        Parser(f"source-{each.name}", partial(source, each), (), SOURCED)
        for each in builtin().values()
    ),
    Parser(
        "source-row",
        source_row,
        (InvalidSetting,),
        (
            b'name="a"\nitems="body"\neach="s.r"\n[status]\nnumber="n"\nid=["a","b"]\nstates={ok="FAIL"}\n',
            b'name="b"\nitems="form.x"\n[reply]\nnumber="n"\ntext="t"\ncoding="gsm7"\n[answer]\n',
        ),
    ),
    Parser(
        "recorded-request",
        recorded_request,
        (InvalidSetting,),
        (
            b"POST /in/a/b?c=d HTTP/1.1\r\nContent-Length: 2\r\nContent-Type: a/b\r\n\r\n[]",
            b"curl -G -d a=b --data-urlencode 'c=\xe5\xa5\xbd' -H 'Content-Type: a' https://a/?b",
        ),
    ),
    *(Parser(f"signature-{scheme}", partial(signature, scheme), (), SIGNED) for scheme in SCHEMES),
    Parser(
        "parked",
        parked,
        (),
        (b"to=%2B86+138%200013%25208000", b'"\\u0030 (0)-\\\\u0031"', *SOURCED),
    ),
    Parser("json", json_text, (InvalidBody,), (b"1e3", b"-0.10", *BODIES)),
    Parser("api3-authorization", authorization, (InvalidAuthorization,), (AUTHORIZATION,)),
    Parser("api3-calls", api3_calls, (), API3_CALLS, 16 * 1024),
    Parser("api3-request", api3_request, (), API3_REQUESTS),
    Parser(
        "api3-send",
        send_sms,
        (ActionRefused,),
        (
            b'{"PhoneNumberSet":["+8613800000000","13x"],"TemplateId":"1","SessionContext":"a"}',
            b'{"PhoneNumberSet.0":"+12025550100","TemplateId":1,"TemplateParamSet":["a",2]}',
        ),
    ),
    Parser("api3-v1", v1_signature, (InvalidAuthorization,), (V1,)),
    Parser("about", read_features, (), (about("1"),)),
    Parser("answer", answer, (ClientError,), ANSWERS),
    Parser("pull-id", lambda data: parse_pull_id(data.decode("latin-1")), (), (b"1-0-7-2",)),
    Parser(
        "proof",
        lambda data: read_proof(data.decode("latin-1")),
        (),
        (b"random=7226249334 time=1457336869",),
    ),
    *(
        Parser(
            f"push-{name}{'' if finished else '-growing'}",
            partial(push_file, name, finished),
            (InvalidBody, InvalidSetting),
            (*BODIES, *CSV, b"\x1f\x8b\x08\0\0\0\0\0", b"PK\x03\x04"),
        )
        for name, finished in itertools.product(("a.csv", "a.ndjson", "a"), (True, False))
    ),
    Parser(
        "configuration",
        configuration,
        (InvalidSetting,),
        (b'host = "::1"\nport = 80\n', b"a = " + b"[" * 2000),
    ),
    *(
        Parser(
            f"state-{of}{'-checked' if checked else ''}",
            partial(state, value_type, checked),
            (StoreRefused,),
            STATES,
        )
        for (of, value_type), checked in itertools.product(STATE_TYPES.items(), (True, False))
    ),
    Parser(
        "store-url",
        lambda data: check_store_url(data.decode("latin-1")),
        (InvalidSetting,),
        (b"sqlite:////a/b.db?file-system=any&commits=thread", b"sqlite:///:memory:"),
    ),
    Parser(
        "mounts",
        mounts,
        (),
        (
            b"36 35 98:0 / /var\\040a rw,noatime master:1 - ext4 /dev/root rw,errors=continue\n",
            b"a - b\n",
        ),
    ),
    Parser(
        "master-keys",
        lambda data: masters.parse(data, "a file"),
        (StoreRefused,),
        (b"# a\n%b\n" % (b"0a" * 32),),
    ),
    Parser(
        "setting",
        setting,
        (StoreCorrupt,),
        (
            b'application/1\0{"sdkappid":1,"appkeys":[],"created_ms":0}',
            b"token/a\0{}",
            b"secret/%b\0%b" % (api3.ID.encode(), api3.PAIR),
            b'routing\0[{"name":"a","sdkappid":1,"to_prefix":"106","extend":""}]',
        ),
    ),
    Parser(
        "applications",
        lambda data: read_applications(data, NOW_S * 1000),
        (InvalidSetting,),
        (b"sdkappid,name\n1400000001,a\n", b'{"sdkappid":1400000001,"rate":5}\n'),
        16 * 1024,
    ),
    Parser("moment", moment, (click.UsageError,), (b"2026-11-23T04:00", b"90m", b"9999999d")),
    Parser(
        "act",
        act,
        (StoreCorrupt,),
        (b'{"sdkappid":1,"mailboxes":["1/replies"]}', b'{"sdkappids":[1]}', b"[1", b'{"to":"1"}'),
    ),
    Parser(
        "scenario",
        scenario,
        (InvalidSetting,),
        (b"[[application]]\nsdkappid = 1\n", b"a = " + b"[" * 2000),
    ),
    Parser("pairing", pairing, (), (b"\x20\0\0\x03",)),
)
