"""`pullstatus doctor`: all checks, one after the other, and what they have found."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from rich.table import Table
from rich.text import Text

from pullstatus.addresses import bare
from pullstatus.cli.config import config_file, default_store
from pullstatus.cli.doctor import (
    alarms,
    care,
    clock,
    disk,
    network,
    program,
    server,
    store,
    surroundings,
    tls,
)
from pullstatus.cli.doctor.alarms import Known
from pullstatus.cli.doctor.findings import EXIT, Finding, Level, fault, ok, worst
from pullstatus.cli.doctor.server import Answers
from pullstatus.cli.doctor.store import Look
from pullstatus.cli.master_keys import named_masters
from pullstatus.cli.output import json_option, print_json, say
from pullstatus.cli.scrape import check_server
from pullstatus.cli.served import Served, config_option, served
from pullstatus.cli.session import plainly
from pullstatus.cli.tables import console
from pullstatus.clock import wall_ms
from pullstatus.errors import InvalidSetting, PullstatusError
from pullstatus.store import check_store_url, store_file
from pullstatus.store.engines import copies_itself
from pullstatus.version import VERSION

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.FAULT: "bold red"}


@click.command("doctor")
@config_option
@click.option("--store", metavar="URL", help="The store, if not that of the settings.")
@click.option(
    "--master-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the master key, if not that of the settings.",
)
@click.option(
    "--master-key-command",
    metavar="COMMAND",
    help="Program, with its arguments, that prints it, if not that of the settings.",
)
@click.option(
    "--tls-certificate",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The server's certificate, if not that of the settings.",
)
@click.option(
    "--tls-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Its key, if not that of the settings.",
)
@click.option(
    "--url",
    help="Where customers reach the server, such as https://sms.example.com: asked instead of the"
    " address in the settings, and its certificate is proven as they prove it. Where it tells no"
    " health there, the address in the settings is asked.",
)
@click.option("--prometheus", metavar="URL", help="The Prometheus that is to have the alarms.")
@click.option(
    "--alerts",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file of rules that is to have the alarms, such as dist/alerts.yml.",
)
@json_option
@plainly
def doctor(
    config: Path | None,
    store: str | None,
    master_key_file: Path | None,
    master_key_command: str | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    url: str | None,
    prometheus: str | None,
    alerts: Path | None,
    as_json: bool,
) -> None:
    """Look whether all is set up as it should be, and say what is to be done.

    Looks at settings, store, disk, clock, TLS, limits, backups and audits, and the running server,
    as the settings of `serve` say that they are. Changes nothing, and runs beside the server, as
    its user.
    """
    for flag, address in (("--url", url), ("--prometheus", prometheus)):
        if address is not None:
            check_server(address, flag)
    flags = {
        "config": config,
        "store": store,
        "master-key-file": master_key_file,
        "master-key-command": master_key_command,
        "tls-certificate": tls_certificate,
        "tls-key": tls_key,
    }
    findings = list(_findings(flags, url, prometheus, alerts))
    level = worst(findings)
    if as_json or not sys.stdout.isatty():
        print_json({"version": VERSION, "worst": level, "findings": findings})
        for finding in findings:
            if finding.level is not Level.OK:
                say(f"{finding.check}: {finding.found}; {finding.fix}", err=True)
    else:
        console().print(table(findings))
    sys.exit(EXIT[level])


def table(findings: Sequence[Finding]) -> Table:
    """Findings for a terminal, the fix of each below it."""
    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(no_wrap=True)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for finding in findings:
        text = Text(finding.found)
        if finding.fix:
            text.append(f"\n-> {finding.fix}", "bold")
        made.add_row(Text(finding.level, STYLES[finding.level]), Text(finding.check), text)
    return made


def _findings(
    flags: Mapping[str, Any], url: str | None, prometheus: str | None, alerts: Path | None
) -> Iterator[Finding]:
    yield from program.look()
    try:
        settings = served(flags)
    except click.ClickException as error:
        yield fault("settings", error.format_message(), "docs/reference/cli.md#pullstatus-serve")
        store_url = _store_alone(flags)
        if store_url is None:
            return
        settings = Served(
            store_url,
            "127.0.0.1",
            0,
            master_key_file=flags["master-key-file"],
            master_key_command=flags["master-key-command"],
        )
    else:
        yield ok("settings", f"store {bare(settings.store)}, calls at {settings.calls}")
    known, found = _alarms(prometheus, alerts)
    yield from found
    answers = None
    if url or settings.port:
        calls = (url or settings.calls).rstrip("/")
        health = calls if url else settings.health
        answers = server.ask(calls, health, own=not url)
        if url and answers.not_ready is None and settings.port:
            answers = server.ask_health(answers, settings.health)
        yield from server.server(answers)
        if answers.figures is not None:
            yield from server.figures(answers.figures)
            yield network.files(
                answers.figures.total("process_max_fds"),
                answers.figures.total("process_open_fds"),
            )
        yield network.proxies(calls, os.environ)
    yield from _tls(settings, url, answers)
    yield from surroundings.look(
        settings.store,
        public=[config_file()],
        secret=[settings.master_key_file],
    )
    yield from _store(settings, answers, known)


def _store_alone(flags: Mapping[str, Any]) -> str | None:
    """The store that is meant where other settings are wrong; None: nobody can tell."""
    try:
        url = os.environ.get("PULLSTATUS_STORE") if flags["store"] is None else str(flags["store"])
        if url is None:
            url = default_store()
        check_store_url(url)
    except InvalidSetting:
        return None
    return url


def _alarms(prometheus: str | None, alerts: Path | None) -> tuple[Known | None, list[Finding]]:
    if prometheus is None and alerts is None:
        return None, []
    try:
        if prometheus is not None:
            known = alarms.of_prometheus(prometheus)
        else:
            assert alerts is not None
            known = alarms.of_file(alerts)
    except InvalidSetting as error:
        return None, [alarms.unknown(error)]
    return known, alarms.alarms(known)


def _tls(settings: Served, url: str | None, answers: Answers | None) -> Iterator[Finding]:
    """What lies in the files, what is shown, and whether that is the same."""
    file = None
    if settings.tls_certificate is not None and settings.tls_key is not None:
        yield from surroundings.modes_of([settings.tls_certificate], [settings.tls_key])
        try:
            file = tls.of_files(settings.tls_certificate, settings.tls_key)
        except (OSError, ValueError) as error:
            yield tls.unusable(error)
        else:
            yield tls.certificate(file, wall_ms())
    address = url or settings.calls
    if answers is None or answers.trouble or urlsplit(address).scheme != "https":
        return
    try:
        shown = tls.of_server(address, own=not url)
    except OSError as error:
        yield tls.unreached(error)
        return
    if url:
        yield tls.certificate(shown, wall_ms())
    elif file is not None:
        yield from tls.renewed(file, shown)


def _store(settings: Served, answers: Answers | None, known: Known | None) -> Iterator[Finding]:
    masters = None
    try:
        masters = named_masters(
            settings.store, settings.master_key_file, settings.master_key_command
        )
    except (PullstatusError, click.ClickException) as error:
        yield store.unkeyed(error)
    found, findings = asyncio.run(store.look(settings.store, masters))
    yield from findings
    now_ms = wall_ms()
    file = store_file(settings.store)
    if file is not None and file.parent.is_dir():
        yield from disk.look(file.parent, _day_bytes(found, answers, known))
    yield clock.clock(now_ms, found.newest_ms if found else 0, clock.synchronized())
    if found is not None:
        yield store.waiting(found.oldest_ms, now_ms)
        yield from care.care(found.done_ms, now_ms, copied=copies_itself(settings.store))


def _day_bytes(found: Look | None, answers: Answers | None, known: Known | None) -> float | None:
    if known is not None and known.day_bytes is not None:
        return known.day_bytes
    if found is None or answers is None or answers.figures is None:
        return None
    said = answers.figures
    return disk.growth(
        said.total("pullstatus_records_in_total"),
        time.time() - said.total("process_start_time_seconds"),
        found.bytes,
        found.stored,
    )
