"""The alarms: whether Prometheus knows all of them, and which of them ring."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx
import msgspec

from pullstatus import limits
from pullstatus.addresses import bare
from pullstatus.cli.doctor.findings import Finding, fault, ok, warning
from pullstatus.cli.scrape import get
from pullstatus.client.errors import InvalidArgument, shown
from pullstatus.client.route import open_http
from pullstatus.errors import InvalidSetting
from pullstatus.files import read_whole

PREFIX: Final = "Pullstatus"
NAMES: Final = frozenset(
    PREFIX + name
    for name in (
        *("AuditLate", "BackupLate", "CertificateEnds", "ClusterFull", "CopiesAway", "DiskFills"),
        *("Down", "Fails", "Guessing", "InputWrong", "LeaderWithoutWrites", "LogDropped"),
        *("LogGrows", "NoRoom", "NobodyPulls", "NodeDamaged", "NodeUnproven", "PageInHand"),
        *("Parked", "ParkedLost", "PendingStays", "PullsFail", "Quarantined", "RefusesInput"),
        *("Restarts", "SearchBehind", "Sheds", "StoreSlow", "StoreStalled", "StreamsDown"),
        *("UpkeepLate", "WaitingTooOld", "WorkerEnded"),
    )
)
"""Those of dist/alerts.yml; a test compares."""

ANSWER_S: Final = 10.0
GROWTH: Final = "sum(deriv(pullstatus_store_bytes[1d])) * 86400"
LOAD: Final = "name dist/alerts.yml in rule_files of prometheus.yml, and reload Prometheus"
PAGE: Final = "docs/how-to/read-the-alarms.md"


class Known(msgspec.Struct, frozen=True):
    """What Prometheus says.

    Attributes:
        names: of the alarms that it has.
        ringing: those that ring, and how severe each is.
        day_bytes: by how much the store grows a day; None: it does not know.
    """

    names: Collection[str]
    ringing: Mapping[str, str] = {}
    day_bytes: float | None = None


def of_file(file: Path) -> Known:
    """The alarms of a file of rules.

    Raises:
        InvalidSetting: it cannot be read.
    """
    try:
        text = read_whole(file, limits.NAMED_FILE_BYTES_MAX).decode()
    except OSError as error:
        raise InvalidSetting(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidSetting(f"{file} is no text") from error
    return Known(re.findall(r"(?m)^\s*(?:- )?alert:\s*[\"']?(\w+)", text))


def of_prometheus(address: str) -> Known:
    """What a Prometheus has loaded.

    Raises:
        InvalidSetting: none answers there.
    """
    where = address.rstrip("/")
    try:
        with open_http(where, ANSWER_S) as asking:
            groups = _LOADED.decode(_data(asking, f"{where}/api/v1/rules?type=alert")).groups
            grown = _FOUND.decode(_data(asking, f"{where}/api/v1/query?query={quote(GROWTH)}"))
        rules = [rule for group in groups for rule in group.rules]
        return Known(
            {rule.name for rule in rules},
            {
                rule.name: rule.labels.get("severity", "")
                for rule in rules
                if rule.state == "firing" and rule.name.startswith(PREFIX)
            },
            float(grown.result[0].value[1]) if grown.result else None,
        )
    except (httpx.HTTPError, httpx.InvalidURL, InvalidArgument) as error:
        raise InvalidSetting(f"no Prometheus answers at {bare(where)}") from error
    except (ValueError, RecursionError) as error:  # the first of all that is no JSON, or other
        raise InvalidSetting(f"what answers at {bare(where)} is no Prometheus") from error


class _Rule(msgspec.Struct):
    name: str
    state: str = ""
    labels: dict[str, str] = {}


class _Group(msgspec.Struct):
    rules: list[_Rule]


class _Loaded(msgspec.Struct):
    groups: list[_Group]


class _Value(msgspec.Struct):
    value: tuple[float, str]


class _Found(msgspec.Struct):
    result: list[_Value]


_ANSWER: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LOADED: Final = msgspec.json.Decoder(_Loaded)
_FOUND: Final = msgspec.json.Decoder(_Found)


def _data(asking: httpx.Client, address: str) -> bytes:
    answer = get(asking, address)
    if answer.http_status != HTTPStatus.OK:
        raise httpx.TransportError(f"HTTP {answer.http_status}")
    return bytes(_ANSWER.decode(answer.content).get("data", b"null"))


def unknown(error: InvalidSetting) -> Finding:
    """They cannot be looked at."""
    return fault("alarms", str(error), "start it, or name it with --prometheus")


def alarms(known: Known) -> list[Finding]:
    """Judge which there are, and which ring."""
    missing = sorted(NAMES.difference(known.names))
    found = []
    if len(missing) == len(NAMES):
        found.append(fault("alarms", "none of ours is there", LOAD))
    elif missing:
        found.append(warning("alarms", f"not there: {', '.join(missing)}", LOAD))
    for name, severity in sorted(known.ringing.items()):
        rings = fault if severity == "page" else warning
        found.append(rings("alarms", f"{shown(name)} rings", PAGE))
    return found or [ok("alarms", f"all {len(NAMES)} are there, and none rings")]
