"""The running server: whether it answers, takes work, and is of this version."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import httpx
import msgspec

from pullstatus.addresses import bare
from pullstatus.cli import scrape
from pullstatus.cli.doctor.findings import Finding, fault, ok, warning
from pullstatus.cli.scrape import Figures
from pullstatus.client.errors import InvalidArgument, InvalidEnvironment, shown
from pullstatus.client.exchange import Answer
from pullstatus.errors import StoreUnavailable
from pullstatus.version import VERSION
from pullstatus.wire.about import ABOUT_PATH

LOG = "journalctl -u pullstatus"


class Answers(msgspec.Struct, frozen=True):
    """What a server has answered.

    Attributes:
        address: of its calls.
        trouble: why it could not be asked; "": it was.
        name, version: what it says it is; "": nothing.
        not_ready: why it takes no work; "": it does; None: that is told elsewhere.
        figures: its figures; None: they are told elsewhere.
    """

    address: str
    trouble: str = ""
    name: str = ""
    version: str = ""
    not_ready: str | None = ""
    figures: Figures | None = None


def ask(calls: str, health: str, *, own: bool) -> Answers:
    """Ask a server at the addresses of its calls and of its health; see `scrape.client`."""
    try:
        with scrape.client(calls, own=own) as asking, scrape.client(health, own=own) as watching:
            about = scrape.get(asking, f"{calls}{ABOUT_PATH}")
            not_ready = _not_ready(watching, health)
            figures = _figures(watching, health)
    except _UNANSWERED as error:
        return Answers(calls, trouble=type(error).__name__)
    return Answers(calls, "", _said(about, "name"), _said(about, "version"), not_ready, figures)


def ask_health(answers: Answers, health: str) -> Answers:
    """The same with what is told of its health elsewhere on this machine, if that is a server's."""
    try:
        with scrape.client(health, own=True) as watching:
            not_ready = _not_ready(watching, health)
            figures = _figures(watching, health)
    except _UNANSWERED:
        return answers
    if figures is None and not_ready is None:
        return answers
    return msgspec.structs.replace(answers, not_ready=not_ready, figures=figures)


_UNANSWERED: Final = httpx.HTTPError, httpx.InvalidURL, InvalidArgument, InvalidEnvironment


def _not_ready(watching: httpx.Client, health: str) -> str | None:
    ready = scrape.get(watching, f"{health}/readyz")
    told = ready.http_status, _said(ready, "status")
    if told == (HTTPStatus.OK, "ready"):
        return ""
    if told == (HTTPStatus.SERVICE_UNAVAILABLE, "not ready"):
        return _said(ready, "reason") or None
    return None  # it is somebody else's answer


def _figures(watching: httpx.Client, health: str) -> Figures | None:
    try:
        return scrape.scrape(watching, health)
    except StoreUnavailable:
        return None


def _said(answer: Answer, name: str) -> str:
    """A member of the object that was answered, as a text may have it; "" if there is none."""
    try:
        found = msgspec.json.decode(answer.content)
        return shown(str(found.get(name, "")))
    except (msgspec.DecodeError, ValueError, AttributeError, RecursionError):
        return ""


def server(answers: Answers) -> list[Finding]:
    """Judge what was answered."""
    where = bare(answers.address)
    if answers.trouble:
        return [
            fault(
                "server",
                f"no server answers at {where} ({answers.trouble})",
                f"systemctl start pullstatus; {LOG}",
            )
        ]
    if answers.name != "pullstatus":
        return [
            fault(
                "port",
                f"what answers at {where} is no pullstatus",
                "another --port, or end the other program: ss -ltnp",
            )
        ]
    found = []
    if answers.not_ready:
        found.append(fault("server", f"it takes no work: {answers.not_ready}", LOG))
    if answers.version != VERSION:
        found.append(
            warning(
                "version",
                f"the server is {answers.version}, this program {VERSION}",
                "systemctl restart pullstatus; docs/how-to/upgrade.md",
            )
        )
    if found:
        return found
    if answers.not_ready is None:
        said = f"answers at {where}, version {answers.version}; whether it takes work is not known"
        return [ok("server", said)]
    return [ok("server", f"ready at {where}, version {answers.version}")]


def figures(said: Figures) -> list[Finding]:
    """Judge what a server tells of its store."""
    found = []
    if "pullstatus_accepting" in said and not said.total("pullstatus_accepting"):
        found.append(
            fault(
                "room",
                "the server takes no more records: its disk is nearly full, or its log too long",
                "docs/how-to/read-the-alarms.md",
            )
        )
    if away := said.total("pullstatus_cluster_streams_down"):
        found.append(fault("cluster", f"{away:.0f} streams are down", "docs/how-to/cluster.md"))
    if away := said.total("pullstatus_cluster_copies_away"):
        found.append(warning("cluster", f"{away:.0f} copies are away", "docs/how-to/cluster.md"))
    return found
