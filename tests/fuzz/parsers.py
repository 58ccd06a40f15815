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
from pullstatus.apps.values import read_setting
from pullstatus.cli.acts import concerns
from pullstatus.cli.app_import import read_applications
from pullstatus.cli.config import read_config
from pullstatus.cli.periods import Moment
from pullstatus.cli.push.source import Records
from pullstatus.client.errors import ClientError
from pullstatus.client.exchange import Answer
from pullstatus.client.reading import clock_skew_s, read_pull, retry_after_s
from pullstatus.client.slots import BEGINNING, SLOT_BYTES, Slots, peek
from pullstatus.client.state import State as ClientState
from pullstatus.consumer.state import State as TargetState
from pullstatus.emulator.scenario import parse_scenario
from pullstatus.errors import (
    AcknowledgementRefused,
    BodyTooLarge,
    InvalidBody,
    InvalidRecord,
    InvalidSetting,
    Refused,
    StoreCorrupt,
    StoreRefused,
)
from pullstatus.json import ascii_json, check_json, integer, mend_text
from pullstatus.receipts.batch import read_batch
from pullstatus.receipts.formats import FORMATS, Request
from pullstatus.receipts.tencent import read_strictly
from pullstatus.records import Kind, decode
from pullstatus.server.http import address_of_peer, named_application, whose
from pullstatus.server.whole import read_whole
from pullstatus.server.words import check_key, read_repeat, read_wait
from pullstatus.steps import done
from pullstatus.store import NO_TICKET, Act, ActRow, Mailbox, check_store_url, parse_pull_id
from pullstatus.store.sqlite.pairing import UserVersion
from pullstatus.store.sqlite.place import mount_of, parse_mounts
from pullstatus.wire.about import about, read_features
from pullstatus.wire.v5.pull import parse_pull, read_proof
from tests.harness import reply, status
from tests.unit.server.asgi import APP, SECRET, Served
from tests.unit.server.test_connection import Loop, Peer

__all__ = ["PARSERS", "Parser"]

NOW_S: Final = 1_767_571_200
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


def batch(kind: Kind, ndjson: bool, data: bytes) -> None:
    """A batch of a gateway; what is taken is JSON that can be read again."""
    for entry in read_batch(data, kind, ndjson).entries:
        assert entry.isascii()
        decode(entry, kind)


def callback(name: str, data: bytes) -> None:
    """A callback, of which nothing is refused, and its strict reading."""
    receipts = done(FORMATS[name].read(Request("POST", b"", "", data, NOW_S)))
    for entry in receipts.entries:
        assert entry.isascii()
        decode(entry, receipts.kind)
    assert FORMATS[name].alone(data)
    done(read_strictly(data))


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
    read_config(_file(data), {"host", "port", "log-level"})


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
    BEGINNING,
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
    for kind in Kind:
        read_pull(Answer(200, headers, body), kind, keyed=None, now_s=NOW_S)


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
    *(
        Parser(f"batch-{kind.path}-{form}", partial(batch, kind, form == "ndjson"), BATCH, BODIES)
        for kind, form in itertools.product(Kind, ("json", "ndjson"))
    ),
    *(
        Parser(f"callback-{name}", partial(callback, name), (InvalidBody, InvalidRecord), BODIES)
        for name in FORMATS
    ),
    Parser("json", json_text, (InvalidBody,), (b"1e3", b"-0.10", *BODIES)),
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
        (b'application/1\0{"sdkappid":1,"appkeys":[],"created_ms":0}', b"token/a\0{}"),
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
