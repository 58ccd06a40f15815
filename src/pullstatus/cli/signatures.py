"""`pullstatus sign` and `pullstatus verify`: a signature made, or looked into."""

from __future__ import annotations

import shlex
import sys
import time
from hashlib import sha256
from pathlib import Path
from random import SystemRandom
from urllib.parse import quote, urlsplit

import click
import msgspec

from pullstatus import limits
from pullstatus.cli.numbers import SDKAPPID
from pullstatus.cli.output import print_json, say
from pullstatus.cli.service import (
    KINDS,
    appkey_option,
    check_service,
    count_max_option,
    read_secret,
)
from pullstatus.cli.session import plainly
from pullstatus.client.arguments import check_appkey
from pullstatus.wire.v5.mismatch import explain_request, signed_text
from pullstatus.wire.v5.pull import pull_request

MISMATCH = 1  # exit status


@click.command("sign")
@appkey_option
@click.option("--random", help="The query's random, as it will be sent; made otherwise.")
@click.option("--time", "at", metavar="SECONDS", help="Unix seconds; now otherwise.")
@click.option(
    "--mobile",
    "mobiles",
    multiple=True,
    metavar="NUMBER",
    help="A receiver, for calls that send: once for each. A pull signs none.",
)
@click.option("--url", envvar="PULLSTATUS_URL", show_envvar=True, help="For --curl.")
@click.option(
    "--sdkappid", type=SDKAPPID, envvar="PULLSTATUS_SDKAPPID", show_envvar=True, help="For --curl."
)
@click.option("--type", "kind", type=click.Choice(list(KINDS)), help="For --curl.")
@count_max_option("For --curl.")
@click.option("--curl", is_flag=True, help="Print a whole pull instead, as a curl command.")
@plainly
def sign(
    appkey_file: Path | None,
    random: str | None,
    at: str | None,
    mobiles: tuple[str, ...],
    url: str | None,
    sdkappid: int | None,
    kind: str | None,
    count_max: int,
    curl: bool,
) -> None:
    """Compute the signature of a request.

    Prints sig and what it was made of, as JSON; the text that was signed has its appkey masked.
    """
    appkey = read_secret(appkey_file, "PULLSTATUS_APPKEY", "--appkey-file")
    check_appkey(appkey)
    random = str(SystemRandom().randrange(10**9)) if random is None else random
    at = str(int(time.time())) if at is None else at
    if not curl:
        text = signed_text(appkey, random, at, mobiles)
        masked = signed_text("*" * len(appkey), random, at, mobiles)
        sig = sha256(text.encode()).hexdigest()
        print_json({"sig": sig, "random": random, "time": at, "signed": masked})
        return
    if url is None or sdkappid is None or kind is None or mobiles:
        raise click.UsageError("--curl needs --url, --sdkappid and --type, and takes no --mobile")
    if not at.isascii() or not at.isdigit() or len(at) > limits.INTEGER_DIGITS_MAX:
        raise click.UsageError("--time is not an integer: give Unix seconds, digits only")
    check_service(url)
    target, body = pull_request(sdkappid, appkey, KINDS[kind], count_max, random, int(at))
    say(shlex.join(["curl", "--data", body.decode(), f"{url.rstrip('/')}{target}"]))


@click.command("verify")
@appkey_option
@click.option("--sig", help="The signature.")
@click.option("--random", help="The query's random, as it was sent.")
@click.option("--time", "at", metavar="SECONDS", help="The body's time, as it was sent.")
@click.option("--address", help="In place of --random: the request's address.")
@click.option("--body", help="In place of --sig and --time: the request's body; - reads it.")
@click.option(
    "--mobile",
    "mobiles",
    multiple=True,
    metavar="NUMBER",
    help="A number in the body: once for each. Those of --body are found there.",
)
@click.option("--sends", is_flag=True, help="The call is one that sends, and signs its mobiles.")
@click.option(
    "--now",
    type=click.IntRange(0, 10**10),
    metavar="SECONDS",
    help="The server's clock in Unix seconds; this machine's otherwise.",
)
@click.option("--any-time", is_flag=True, help="Don't look how old it is.")
def verify(
    appkey_file: Path | None,
    sig: str | None,
    random: str | None,
    at: str | None,
    address: str | None,
    body: str | None,
    mobiles: tuple[str, ...],
    sends: bool,
    now: int | None,
    any_time: bool,
) -> None:
    """Check the signature of a request, and say what is wrong with it.

    It finds a blank or line end around the appkey, times in milliseconds, a random that was made a
    number, a mobile that does not belong there or is missing, other names and orders, and clocks.
    """
    appkey = read_secret(appkey_file, "PULLSTATUS_APPKEY", "--appkey-file")
    findings = []
    if appkey != appkey.strip():
        findings.append(
            {
                "mistake": "the appkey that you gave has a blank or line end around it",
                "fix": "it is checked here without; cut it off where it comes from",
            }
        )
        appkey = appkey.strip()
    query, sent = _query_of(address, random), _body_of(body, sig, at)
    if query is None or sent is None:
        raise click.UsageError("give --sig, --random and --time, or --body and --address")
    now_s = None if any_time else int(time.time()) if now is None else now
    found_wrong = explain_request(query, sent, appkey, mobiles=mobiles, sends=sends, now_s=now_s)
    findings += [{"mistake": one.mistake, "fix": one.fix} for one in found_wrong]
    if not sys.stdout.isatty():
        print_json({"accepted": not findings, "findings": findings})
    elif not findings:
        say("It would be accepted.")
    else:
        for one in findings:
            say(f"{one['mistake']}\n  -> {one['fix']}")
    if findings:
        sys.exit(MISMATCH)


def _query_of(address: str | None, random: str | None) -> bytes | None:
    """The query that was sent, or one with this random; None if it is not clear which."""
    if (address is None) == (random is None):
        return None
    if address is not None:
        _check_address(address)
        return _encoded(address).partition(b"?")[2].partition(b"#")[0]
    assert random is not None
    return f"sdkappid=1&random={quote(_encoded(random), safe='')}".encode()


def _check_address(address: str) -> None:
    try:
        urlsplit(address)
    except ValueError:
        raise click.UsageError("--address is no address") from None


def _body_of(body: str | None, sig: str | None, at: str | None) -> bytes | None:
    """The body that was sent, or one with this sig and time; None if it is not clear which."""
    if body is not None and sig is None and at is None:
        most = limits.INGEST_BODY_BYTES_MAX + 1
        return sys.stdin.buffer.read(most) if body == "-" else _encoded(body)
    if body is not None or sig is None or at is None:
        return None
    return b'{"sig":%b,"time":%b}' % (_string(sig), _number(at))


def _encoded(argument: str) -> bytes:
    """What was given on the command line, byte for byte."""
    return argument.encode(errors="surrogateescape")


def _string(argument: str) -> bytes:
    return msgspec.json.encode(_encoded(argument).decode(errors="replace"))


def _number(argument: str) -> bytes:
    """A number as it was given; a string, where it is none."""
    token = _encoded(argument)
    try:
        msgspec.json.decode(token, type=float)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _string(argument)
    return token
