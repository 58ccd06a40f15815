"""The dashboard for Grafana, dist/grafana.json: rows of panels, each by what Prometheus is asked.

`make docs` writes it anew. Counters are added over servers; what is of the store, or of the records
in it, is said alike by each server over it, so of that the greatest is shown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from typing import Any, Final, NamedTuple

WIDTH: Final = 24  # of a row, in Grafana's columns
HEIGHT: Final = 8
SMALL: Final = 4  # of a single figure, either way
RATE: Final = "$__rate_interval"
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


class Panel(NamedTuple):
    """A picture.

    Attributes:
        unit: by Grafana's name for it.
        asked: what Prometheus is asked, with the name of what it brings: labels in braces.
        text: what to know about it.
    """

    title: str
    unit: str
    asked: dict[str, str]
    text: str = ""


class Figure(NamedTuple):
    """A single figure, green until a bound and red from there on; None: it has none."""

    title: str
    unit: str
    asked: str
    red: float | None = None
    red_below: bool = False


def of(name: str, labels: str = "") -> str:
    """A metric, of the servers that are looked at."""
    chosen = f'job="$job",instance=~"$instance"{"," if labels else ""}{labels}'
    return f"{name}{{{chosen}}}"


def rate(name: str, by: str = "", labels: str = "") -> str:
    """How often in a second, over all servers."""
    return f"sum {f'by ({by}) ' if by else ''}(rate({of(name, labels)}[{RATE}]))"


def some(name: str, by: str, labels: str = "") -> str:
    """The same, of those alone that come: there are many that hardly ever do."""
    return f"{rate(name, by, labels)} > 0"


def most(name: str, by: str = "") -> str:
    """What each server says of the same."""
    return f"max {f'by ({by}) ' if by else ''}({of(name)})"


def total(name: str) -> str:
    """What each server says of itself, over all."""
    return f"sum({of(name)})"


def quantile(part: float, name: str, by: str = "") -> str:
    """A part of so many are faster."""
    given = f"le, {by}" if by else "le"
    return f"histogram_quantile({part}, {rate(f'{name}_bucket', given)})"


def since(name: str) -> str:
    """Seconds since something was done; nothing if it never was."""
    return f"time() - max({of(name)} > 0)"


GROWTH: Final = "deriv({}[1h])"
YEAR_S: Final = 365 * 86_400
LEFT: Final = (
    f"clamp_max(min({of('pullstatus_store_free_bytes')}"
    f" / clamp_min(-{GROWTH.format(of('pullstatus_store_free_bytes'))}, 1)), {YEAR_S})"
)

ROWS: Final[dict[str, Sequence[Panel | Figure]]] = {
    "At a glance": [
        Figure("Servers", "none", total("up"), 1, red_below=True),
        Figure(
            "Alarms that ring",
            "none",
            'count(ALERTS{alertname=~"Pullstatus.+",alertstate="firing"}) or vector(0)',
            1,
        ),
        Figure("Records that wait", "short", f"sum({most('pullstatus_waiting', 'kind')})"),
        Figure("Oldest of them", "s", most("pullstatus_oldest_waiting_seconds"), 6 * 3600),
        Figure("Parked", "short", most("pullstatus_parked"), 1),
        Figure(
            "Takes records", "bool_yes_no", f"min({of('pullstatus_accepting')})", 1, red_below=True
        ),
    ],
    "Traffic": [
        Panel(
            "Records in and out",
            "cps",
            {
                "{{kind}} in": rate("pullstatus_records_in_total", "kind"),
                "{{kind}} out": rate("pullstatus_records_out_total", "kind"),
            },
        ),
        Panel(
            "Requests",
            "reqps",
            {"{{call}}": rate("pullstatus_request_seconds_count", "call")},
        ),
        Panel(
            "Time to an answer",
            "s",
            {
                "{{call}}, half": quantile(0.5, "pullstatus_request_seconds", "call"),
                "{{call}}, 99 %": quantile(0.99, "pullstatus_request_seconds", "call"),
            },
            "From the head of a request to its answer, without what a pull waited for a record.",
        ),
        Panel(
            "Connections",
            "short",
            {
                "connections": total("pullstatus_connections"),
                "pulls that wait for a record": total("pullstatus_pulls_held"),
                "open files, connections among them": total("process_open_fds"),
            },
        ),
        Panel(
            "Bytes in hand",
            "bytes",
            {"of requests and answers": total("pullstatus_in_hand_bytes")},
            "64 MiB at most; beyond, requests are refused.",
        ),
        Panel(
            "Processor",
            "short",
            {"cores": rate("process_cpu_seconds_total")},
            "Of servers and their workers, without their stores.",
        ),
    ],
    "Waiting": [
        Panel(
            "Oldest record, of the worst applications",
            "s",
            {
                "{{sdkappid}} {{kind}}": most(
                    "pullstatus_application_oldest_waiting_seconds", "sdkappid, kind"
                )
            },
            "A line that climbs with the clock is a customer who has stopped pulling.",
        ),
        Panel(
            "Records that wait, of the worst applications",
            "short",
            {"{{sdkappid}} {{kind}}": most("pullstatus_application_waiting", "sdkappid, kind")},
        ),
        Panel("Records that wait", "short", {"{{kind}}": most("pullstatus_waiting", "kind")}),
        Panel(
            "Oldest of all",
            "s",
            {
                "record that waits": most("pullstatus_oldest_waiting_seconds"),
                "page in a reader's hand": most("pullstatus_oldest_in_hand_seconds"),
            },
        ),
        Panel(
            "Pages in readers' hands",
            "short",
            {"pages": most("pullstatus_in_hand")},
        ),
        Panel(
            "Given again, or left unpulled",
            "cps",
            {
                "pages given again": rate("pullstatus_pages_given_again_total"),
                "records expired": f"max(rate({of('pullstatus_expired_total')}[{RATE}]))",
            },
            "To a reader that had it in hand; after more than its application's waiting days.",
        ),
    ],
    "Refusals": [
        Panel(
            "Pulls, by result",
            "reqps",
            {
                "{{result}}": some("pullstatus_pulls_total", "result", 'result!="0"'),
                "{{code}} (API 3.0)": some("pullstatus_api3_calls_total", "code", 'code!=""'),
            },
            "The reference has what each means; 1007 and InternalError are the store's.",
        ),
        Panel(
            "Batches and callbacks, by status",
            "reqps",
            {
                "{{door}} {{status}}": some(
                    "pullstatus_batches_total", "door, status", 'status!="200"'
                )
            },
        ),
        Panel(
            "Failed tries", "reqps", {"{{wrong}}": some("pullstatus_failed_tries_total", "wrong")}
        ),
        Panel(
            "No call at all, by status",
            "reqps",
            {"{{status}}": some("pullstatus_requests_refused_total", "status")},
        ),
        Panel(
            "Too much at a time",
            "reqps",
            {
                "requests, {{reason}}": some("pullstatus_requests_shed_total", "reason"),
                "connections, {{reason}}": some("pullstatus_connections_refused_total", "reason"),
            },
        ),
        Panel(
            "Cut, or not answered",
            "cps",
            {
                "{{deadline}}": some("pullstatus_connections_cut_total", "deadline"),
                "{{call}} not answered": some("pullstatus_unanswered_total", "call"),
            },
        ),
    ],
    "Commits and store": [
        Panel(
            "Commits",
            "cps",
            {
                "commits": rate("pullstatus_commit_seconds_count"),
                "operations": rate("pullstatus_commit_operations_sum"),
            },
            "What comes at a time shares a commit.",
        ),
        Panel(
            "Time of a commit",
            "s",
            {
                "half": quantile(0.5, "pullstatus_commit_seconds"),
                "99 %": quantile(0.99, "pullstatus_commit_seconds"),
            },
        ),
        Panel(
            "Oldest operation at the store",
            "s",
            {"{{instance}}": most("pullstatus_store_oldest_seconds", "instance")},
            "Beyond 5 seconds the server says that it is not ready.",
        ),
        Panel(
            "Operations that wait for the store",
            "short",
            {
                "in line": total("pullstatus_store_queued"),
                "at the store": total("pullstatus_store_handed_over"),
            },
        ),
        Panel(
            "Not indexed and counted yet",
            "short",
            {"records": most("pullstatus_unfollowed")},
            "Questions look through them, and retention waits for them.",
        ),
        Panel(
            "Damaged on the disk",
            "short",
            {
                "records set aside": most("pullstatus_quarantined_total"),
                "mended from another node": total("pullstatus_cluster_mended_total"),
            },
        ),
    ],
    "Disk": [
        Panel(
            "Store",
            "bytes",
            {
                "files": most("pullstatus_store_bytes"),
                "their log": most("pullstatus_store_log_bytes"),
            },
        ),
        Panel("Free", "bytes", {"on its disk": f"min({of('pullstatus_store_free_bytes')})"}),
        Panel(
            "Growth",
            "Bps",
            {"files": f"max({GROWTH.format(of('pullstatus_store_bytes'))})"},
            "Over the last hour.",
        ),
        Panel(
            "Until the disk is full",
            "s",
            {"at this rate": LEFT},
            "By the last hour; a year at most.",
        ),
    ],
    "Upkeep, backup, audit": [
        Panel(
            "Time since",
            "s",
            {
                "backup": since("pullstatus_backup_timestamp_seconds"),
                "audit": since("pullstatus_audit_timestamp_seconds"),
                "upkeep": since("pullstatus_upkeep_timestamp_seconds"),
            },
            "What was never done has no line.",
        ),
        Panel(
            "Until the certificate ends",
            "s",
            {
                "{{instance}}": "min by (instance)"
                f" ({of('pullstatus_certificate_end_timestamp_seconds')} > 0) - time()"
            },
        ),
        Panel(
            "Ended unasked, and lines lost",
            "cps",
            {
                "workers": rate("pullstatus_workers_ended_total"),
                "lines of the log": rate("pullstatus_log_lines_total", labels='fate="dropped"'),
            },
        ),
    ],
    "Sources": [
        Panel(
            "Callbacks",
            "reqps",
            {
                "taken": rate("pullstatus_batches_total", labels='door="callbacks",status="200"'),
                "items put aside": rate("pullstatus_items_parked_total"),
            },
        ),
        Panel(
            "Mended before they were taken",
            "cps",
            {"{{kind}}": rate("pullstatus_records_repaired_total", "kind")},
        ),
        Panel(
            "Items, by what became of them",
            "cps",
            {"{{source}} {{result}}": some("pullstatus_source_items_total", "source, result")},
        ),
        Panel(
            "Put aside",
            "short",
            {
                "parked, for somebody to see to": most("pullstatus_parked"),
                "wait for a name, or for other parts": most("pullstatus_pending"),
            },
        ),
        Panel(
            "Age of what waits longest to become a record",
            "s",
            {"the oldest": most("pullstatus_oldest_pending_seconds")},
        ),
    ],
    "Cluster": [
        Panel(
            "Streams",
            "short",
            {
                "down": most("pullstatus_cluster_streams_down"),
                "without writes": most("pullstatus_cluster_streams_without_writes"),
                "copies away": most("pullstatus_cluster_copies_away"),
                "copies behind": most("pullstatus_cluster_copies_behind"),
                "copies unproven": most("pullstatus_cluster_copies_unproven"),
                "copies short": most("pullstatus_cluster_copies_short"),
            },
        ),
        Panel("Furthest behind", "short", {"steps": most("pullstatus_cluster_lag")}),
        Panel(
            "Fullest stream or node", "percentunit", {"full": most("pullstatus_cluster_full_ratio")}
        ),
        Panel(
            "Subjects in the nodes' memory",
            "short",
            {"subjects": most("pullstatus_cluster_subjects")},
        ),
    ],
}


def rendered() -> str:
    """The file."""
    return json.dumps(_dashboard(), indent=1, ensure_ascii=False) + "\n"


def _dashboard() -> dict[str, Any]:
    return {
        "title": "pullstatus",
        "uid": "pullstatus",
        "tags": ["pullstatus"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "links": [],
        "annotations": {"list": [_alarms()]},
        "templating": {"list": _variables()},
        "panels": _panels(),
    }


def _alarms() -> dict[str, Any]:
    return {
        "name": "Alarms",
        "datasource": SOURCE,
        "enable": True,
        "expr": 'ALERTS{alertname=~"Pullstatus.+",alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{sdkappid}} {{instance}}",
        "iconColor": "red",
        "step": "60s",
    }


def _variables() -> list[dict[str, Any]]:
    chosen = [
        ("job", "label_values(pullstatus_build_info, job)", False),
        ("instance", 'label_values(pullstatus_build_info{job="$job"}, instance)', True),
    ]
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        *(
            {
                "name": name,
                "type": "query",
                "datasource": SOURCE,
                "query": {"query": asked, "refId": name},
                "definition": asked,
                "refresh": 2,  # whenever another time is looked at
                "sort": 1,
                "multi": many,
                "includeAll": many,
                **(
                    {"allValue": ".+", "current": {"text": "All", "value": "$__all"}}
                    if many
                    else {}
                ),
            }
            for name, asked, many in chosen
        ),
    ]


def _panels() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    numbers, top = count(1), 0
    for title, row in ROWS.items():
        place = {"h": 1, "w": WIDTH, "x": 0, "y": top}
        made.append(
            {"id": next(numbers), "type": "row", "title": title, "collapsed": False, "panels": []}
            | {"gridPos": place}
        )
        top += 1
        width, height = WIDTH // (4 if len(row) == 4 else 3), HEIGHT
        if isinstance(row[0], Figure):
            width = height = SMALL
        for number, panel in enumerate(row):
            across, down = number % (WIDTH // width), number // (WIDTH // width)
            place = {"h": height, "w": width, "x": across * width, "y": top + down * height}
            drawn = _single(panel) if isinstance(panel, Figure) else _lines(panel)
            made.append({"id": next(numbers), "gridPos": place, "datasource": SOURCE} | drawn)
        top += height * -(-len(row) // (WIDTH // width))
    return made


def _lines(panel: Panel) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 10}},
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            _target(place, asked, legend)
            for place, (legend, asked) in enumerate(panel.asked.items())
        ],
    }


def _single(figure: Figure) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if figure.red is not None:
        steps.append({"color": "red", "value": figure.red})
        if figure.red_below:
            steps[0]["color"], steps[1]["color"] = steps[1]["color"], steps[0]["color"]
    return {
        "type": "stat",
        "title": figure.title,
        "fieldConfig": {
            "defaults": {
                "unit": figure.unit,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value"},
        "targets": [_target(0, figure.asked, figure.title)],
    }


def _target(place: int, asked: str, legend: str) -> dict[str, Any]:
    return {
        "refId": chr(ord("A") + place),
        "datasource": SOURCE,
        "expr": asked,
        "legendFormat": legend,
    }
