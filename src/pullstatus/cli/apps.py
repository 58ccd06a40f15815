"""`pullstatus app ...`: who may pull."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import click
import msgspec

from pullstatus import apps, limits
from pullstatus.apps import AppKey, Application, Masters, Standing
from pullstatus.cli.acting import acting
from pullstatus.cli.app_import import keys_as_csv, read_applications, refuse_taken
from pullstatus.cli.lazy import Group
from pullstatus.cli.master_keys import with_masters
from pullstatus.cli.numbers import SDKAPPID
from pullstatus.cli.output import json_option, moment, moment_or_none, print_json, print_rows, say
from pullstatus.cli.periods import MomentToCome
from pullstatus.cli.service import read_file
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.clock import wall_ms
from pullstatus.errors import InvalidSetting, PullstatusError
from pullstatus.store import Store

F = TypeVar("F", bound=Callable[..., object])

sdkappid_argument = click.argument("sdkappid", type=SDKAPPID)


def appkey_option(command: F) -> F:
    """`--appkey` and `--appkey-file`, as one value; None where neither is given."""
    command = click.option(
        "--appkey-file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
        callback=_read_appkey,
        expose_value=False,
        help="File that holds the key to use; - is standard input.",
    )(command)
    return click.option(
        "--appkey",
        metavar="HEX",
        is_eager=True,  # or what the file says would be overwritten
        help=f"Use this key ({limits.APPKEY_CHARS} hexadecimal digits); made at random otherwise."
        " Everybody on this machine can see it: --appkey-file keeps it to yourself.",
    )(command)


def _read_appkey(context: click.Context, _parameter: click.Parameter, file: Path | None) -> None:
    if file is None:
        return
    if context.params.get("appkey") is not None:
        raise click.UsageError("--appkey and --appkey-file contradict each other")
    context.params["appkey"] = read_file(file, "--appkey-file")


switch = click.Choice(["on", "off"])
name_option = click.option("--name", metavar="TEXT", help="The customer's name, for people.")

AGES = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
ORDERS: dict[str, Callable[[Standing], object]] = {
    "number": lambda standing: standing.application.sdkappid,
    "name": lambda standing: (not standing.application.name, standing.application.name.casefold()),
    "waiting": lambda standing: -standing.waiting,
    "oldest": lambda standing: standing.oldest_ms or sys.maxsize,
    "last-pull": lambda standing: standing.last_pull_ms or 0,
}


def _shown(standing: Standing) -> dict[str, object]:
    """What may be seen of an application: all but its keys, of which the last four digits."""
    application = standing.application
    return {
        "sdkappid": application.sdkappid,
        "name": application.name,
        "enabled": application.enabled,
        "pull": application.pull,
        "query": application.query,
        "strict": application.strict,
        "arrears": application.arrears,
        "leaving": application.leaving,
        "allow": list(application.allow),
        "rate": application.pull_rate_max,
        "query_rate": application.query_rate_max,
        "statistics_rate": application.statistics_rate_max,
        "waiting_days": application.waiting_days_max,
        "wait": application.wait_s,
        "window": application.window_s,
        "created": moment(application.created_ms),
        "appkeys": [
            {
                "ends_with": key.ends_with,
                "created": moment(key.created_ms),
                "not_before": moment_or_none(key.not_before_ms or None),
                "not_after": moment_or_none(key.not_after_ms),
                "last_used": moment_or_none(used and used.at_ms),
                "last_used_from": used and used.place,
            }
            for key, used in zip(application.appkeys, standing.used, strict=True)
        ],
    }


def _listed(standing: Standing) -> dict[str, object]:
    return {
        **_shown(standing),
        "waiting": standing.waiting,
        "oldest": moment_or_none(standing.oldest_ms),
        "last_pull": moment_or_none(standing.last_pull_ms),
    }


def _row(standing: Standing, now_ms: int) -> dict[str, object]:
    """A line of a table: times as ages, and of the switches those that are not as usual."""
    application = standing.application
    notes = {
        "disabled": not application.enabled,
        "no pull": not application.pull,
        "no query": not application.query,
        "arrears": application.arrears,
        "strict": application.strict,
        "leaving: delete it again": application.leaving,
        f"{len(application.appkeys)} keys": len(application.appkeys) > 1,
    }
    return {
        "sdkappid": application.sdkappid,
        "name": application.name,
        "waiting": standing.waiting,
        "oldest": _age(standing.oldest_ms, now_ms),
        "last pull": _age(standing.last_pull_ms, now_ms),
        "notes": ", ".join(note for note, holds in notes.items() if holds),
    }


def _age(at_ms: int | None, now_ms: int) -> str | None:
    """How long ago, in the largest unit that it fills."""
    if at_ms is None:
        return None
    age_s = max(0, now_ms - at_ms) // 1000
    unit, seconds = next((pair for pair in AGES if age_s >= pair[1]), AGES[-1])
    return f"{age_s // seconds}{unit}"


async def _standing(store: Store, changed: Application) -> Standing:
    """How an application stands that was changed just now; that it was is told in any case."""
    try:
        return await apps.standing(store, changed.sdkappid)
    except PullstatusError as error:
        say(f"when its keys were used cannot be read now: {error}", err=True)
        return Standing(changed, [], [None] * len(changed.appkeys))


def _print_made(standing: Standing, key: AppKey | None) -> None:
    """An application, and its new key if there is one: the one time that is shown."""
    secret = {} if key is None else {"appkey": key.appkey}
    print_json({**secret, **_shown(standing)})


@click.group("app", cls=Group)
def app_group() -> None:
    """Applications: the customers who pull.

    What is made or allowed here is good for the next request to a running server; what is taken
    away is refused within a second.
    """


@app_group.command("create")
@sdkappid_argument
@name_option
@appkey_option
@click.option("--no-pull", is_flag=True, help="Leave the pull feature off: calls get 1006.")
@store_option
@with_masters
@plainly
def create_app(
    sdkappid: int,
    name: str | None,
    appkey: str | None,
    no_pull: bool,
    store_url: str,
    masters: Masters,
) -> None:
    """Make an application and print it as JSON. Its appkey is shown this once."""

    async def make(store: Store) -> None:
        application = await apps.create_application(
            store,
            sdkappid,
            by=acting(),
            keyring=await apps.open_keyring(store, masters),
            appkey=appkey,
            pull=not no_pull,
            name=name or "",
        )
        _print_made(Standing(application, [], [None]), application.appkeys[0])

    with_store(store_url, make, create=True)


@app_group.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--csv", "as_csv", is_flag=True, help="Print the keys as CSV instead of JSON.")
@store_option
@with_masters
@plainly
def import_apps(file: BinaryIO, as_csv: bool, store_url: str, masters: Masters) -> None:
    """Make all applications of FILE, or none; - is standard input.

    FILE is CSV whose first line names its columns, or NDJSON. Each application has an sdkappid and
    may have name, appkey, enabled, pull, query, strict, arrears, allow, rate, query_rate,
    statistics_rate, waiting_days, wait and window, as in `app set`; in CSV, several networks of
    allow have blanks between them. Their appkeys are shown this once.
    """
    try:
        content = file.read(limits.IMPORT_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidSetting(f"{file.name} cannot be read: {error.strerror}") from error
    wanted = read_applications(content, wall_ms())

    async def make(store: Store) -> None:
        taken = await apps.existing(store, [made.sdkappid for _, made in wanted])
        refuse_taken(wanted, taken)
        keyring = await apps.open_keyring(store, masters)
        applications = [made for _, made in wanted]
        made = await apps.import_applications(store, applications, by=acting(), keyring=keyring)
        _print_imported(made, as_csv=as_csv)

    with_store(store_url, make)


def _print_imported(made: Sequence[Application], *, as_csv: bool) -> None:
    rows = [
        {
            "sdkappid": application.sdkappid,
            "name": application.name,
            "appkey": application.appkeys[0].appkey,
        }
        for application in made
    ]
    if as_csv:
        say(keys_as_csv(made), nl=False)
    else:
        print_json(rows)


@app_group.command("list")
@click.argument("text", required=False, default="")
@click.option(
    "--sort",
    type=click.Choice(list(ORDERS)),
    default="number",
    show_default=True,
    help="What comes first: most waiting, the oldest record, the longest without a pull.",
)
@json_option
@store_option
@plainly
def list_apps(text: str, sort: str, as_json: bool, store_url: str) -> None:
    """List all applications, or those with TEXT in their number or name, and how they stand.

    A pull counts whether or not it brought anything; one of an empty mailbox is seen a minute
    later.
    """
    found = [
        standing
        for standing in with_store(store_url, apps.standings)
        if text in str(standing.application.sdkappid)
        or text.casefold() in standing.application.name.casefold()
    ]
    found.sort(key=ORDERS[sort])  # type: ignore[arg-type]
    terminal = sys.stdout.isatty() and not as_json
    now_ms = wall_ms()
    print_rows(
        [_row(each, now_ms) if terminal else _listed(each) for each in found],
        as_json=as_json,
        columns=["sdkappid", "waiting", "oldest", "last pull", "name", "notes"],
        wraps="name",
        empty="No application has this in its number or name."
        if text
        else "No applications yet: pullstatus app create SDKAPPID makes one.",
    )


@app_group.command("show")
@sdkappid_argument
@json_option
@store_option
@plainly
def show_app(sdkappid: int, as_json: bool, store_url: str) -> None:
    """Show one application, when its keys were used last, and how its mailboxes stand.

    The use of a key is seen a minute later.
    """
    standing = with_store(store_url, lambda store: apps.standing(store, sdkappid))
    shown = _shown(standing)
    mailboxes: list[dict[str, object]] = [
        {
            "kind": row.mailbox.kind.path,
            "accepted": row.accepted,
            "handed_out": row.handed_out,
            "waiting": row.waiting,
            "oldest": moment_or_none(row.oldest_ms),
            "last_pull": moment_or_none(row.last_pull_ms),
        }
        for row in standing.mailboxes
    ]
    if as_json or not sys.stdout.isatty():
        print_json({**shown, "mailboxes": mailboxes})
        return
    keys = shown.pop("appkeys")
    assert isinstance(keys, list)
    print_rows(
        [{"": name, "application": value} for name, value in shown.items()],
        as_json=False,
        columns=["", "application"],
        wraps="application",
        empty="",
    )
    columns = ["ends_with", "created", "not_before", "not_after", "last_used", "last_used_from"]
    print_rows(keys, as_json=False, columns=columns, empty="")
    print_rows(
        mailboxes,
        as_json=False,
        columns=["kind", "waiting", "oldest", "last_pull", "accepted", "handed_out"],
        empty="Nothing was accepted for it yet.",
    )


def _change(sdkappid: int, store_url: str, action: str, **changes: object) -> None:
    def change(application: Application) -> Application:
        return msgspec.structs.replace(application, **changes)

    async def work(store: Store) -> Standing:
        return await _standing(
            store,
            await apps.change_application(store, sdkappid, change, by=acting(), action=action),
        )

    print_json(_shown(with_store(store_url, work)))


@app_group.command("enable")
@sdkappid_argument
@store_option
@plainly
def enable_app(sdkappid: int, store_url: str) -> None:
    """Let an application call again."""
    _change(sdkappid, store_url, "app enable", enabled=True)


@app_group.command("disable")
@sdkappid_argument
@store_option
@plainly
def disable_app(sdkappid: int, store_url: str) -> None:
    """Refuse an application's calls with 1020. Records for it are still accepted."""
    _change(sdkappid, store_url, "app disable", enabled=False)


@app_group.command("set")
@sdkappid_argument
@name_option
@click.option("--pull", type=switch, help="The pull feature; off: calls get 1006.")
@click.option(
    "--query",
    type=switch,
    help="What reads without taking, by number and statistics; off: calls get 1006.",
)
@click.option(
    "--strict",
    type=switch,
    help="Take each signature once; repeats get 1001, but for a page's under its Idempotency-Key."
    " Not for SDKs of API 3.0: two of their calls in a second may have one.",
)
@click.option("--arrears", type=switch, help="Stopped for unpaid bills: calls get 1033.")
@click.option(
    "--allow", multiple=True, metavar="CIDR", help="Let calls in from this network; repeatable."
)
@click.option("--allow-any", is_flag=True, help="Let calls in from everywhere again.")
@click.option(
    "--rate",
    type=click.IntRange(0, limits.RATE_MAX),
    help="Pulls a second; 0 takes the limit away.",
)
@click.option(
    "--query-rate",
    type=click.IntRange(0, limits.RATE_MAX),
    help=f"Queries by number a second, {limits.QUERY_RATE} at first; 0 takes the limit away.",
)
@click.option(
    "--statistics-rate",
    type=click.IntRange(0, limits.RATE_MAX),
    help="Calls for statistics a second,"
    f" {limits.STATISTICS_RATE} at first; 0 takes the limit away.",
)
@click.option(
    "--waiting-days",
    type=click.IntRange(0, limits.WAITING_DAYS_MAX),
    help="Days after which what nobody pulled expires; 0: never, as at first.",
)
@click.option(
    "--wait",
    type=click.IntRange(0, limits.PULL_WAIT_S_MAX),
    help="Seconds that a pull of an empty mailbox waits for a record, unless it says itself with"
    " Pullstatus-Wait; 0, as at first: not at all.",
)
@click.option(
    "--window",
    type=click.IntRange(limits.WINDOW_S_MIN, limits.SKEW_S_MAX),
    help="Seconds after it was signed in which a request must arrive, or it gets 1021;"
    f" {limits.SKEW_S_MAX} at first.",
)
@store_option
@plainly
def set_app(
    sdkappid: int,
    name: str | None,
    pull: str | None,
    query: str | None,
    strict: str | None,
    arrears: str | None,
    allow: tuple[str, ...],
    allow_any: bool,
    rate: int | None,
    query_rate: int | None,
    statistics_rate: int | None,
    waiting_days: int | None,
    wait: int | None,
    window: int | None,
    store_url: str,
) -> None:
    """Change an application's name, switches and limits; what is not named stays."""
    changes: dict[str, object] = {
        member: value == "on"
        for member, value in (
            ("pull", pull),
            ("query", query),
            ("strict", strict),
            ("arrears", arrears),
        )
        if value is not None
    }
    if name is not None:
        changes["name"] = apps.check_name(name)
    if allow and allow_any:
        raise click.UsageError("--allow and --allow-any contradict each other")
    if allow or allow_any:
        changes["allow"] = apps.check_networks(allow)
    for member, limit in (
        ("pull_rate_max", rate),
        ("query_rate_max", query_rate),
        ("statistics_rate_max", statistics_rate),
    ):
        if limit is not None:
            changes[member] = limit or None
    if waiting_days is not None:
        changes["waiting_days_max"] = waiting_days or None
    if wait is not None:
        changes["wait_s"] = wait
    if window is not None:
        changes["window_s"] = window
    if not changes:
        raise click.UsageError("name what to change; see --help")
    _change(sdkappid, store_url, "app set", **changes)


@app_group.command("rotate-key")
@sdkappid_argument
@appkey_option
@click.option(
    "--drop-old",
    is_flag=True,
    help="End the old key now: of two live ones the older; the only one, for a new one.",
)
@click.option(
    "--not-before",
    "not_before_ms",
    type=MomentToCome(),
    default=0,
    help="The new key is good from then on: 2026-11-23T04:00 (UTC).",
)
@click.option(
    "--old-until",
    "old_until_ms",
    type=MomentToCome(),
    help="The old key ends by itself then: 2026-11-30T04:00 (UTC).",
)
@store_option
@with_masters
@plainly
def rotate_key(
    sdkappid: int,
    appkey: str | None,
    drop_old: bool,
    not_before_ms: int,
    old_until_ms: int | None,
    store_url: str,
    masters: Masters,
) -> None:
    """Give an application a new appkey, shown this once.

    The key before stays good beside it, so that clients can change one by one: `app show` tells
    when each was used last, and from where. When all have changed, end the old one with drop-key,
    or with this and --drop-old, which then makes no third key. With --old-until it ends by itself.
    The next rotation ends it, too; or the newer one, if only that is not in use.
    """
    if drop_old and old_until_ms is not None:
        raise click.UsageError("--drop-old and --old-until exclude each other")

    async def work(store: Store) -> None:
        rotation = await apps.rotate_key(
            store,
            sdkappid,
            by=acting(),
            keyring=await apps.open_keyring(store, masters),
            appkey=appkey,
            drop_old=drop_old,
            not_before_ms=not_before_ms,
            old_until_ms=old_until_ms,
        )
        _print_made(await _standing(store, rotation.application), rotation.key)
        if rotation.ended is not None:
            say(_ended_unused(rotation.ended), err=True)

    with_store(store_url, work)


def _ended_unused(key: AppKey) -> str:
    return (
        f"of the two keys before, the newer one, which ends with {key.ends_with}, has ended: no use"
        " of it is known, and a use is known a minute later. If somebody signs with it by now, make"
        " it good again with --appkey-file"
    )


@app_group.command("drop-key")
@sdkappid_argument
@click.option(
    "--ends-with",
    "end",
    metavar="HEX",
    required=True,
    help="The last digits of the key, as `app show` tells them.",
)
@store_option
@with_masters
@plainly
def drop_key(sdkappid: int, end: str, store_url: str, masters: Masters) -> None:
    """End one of an application's two live appkeys: calls signed with it get 1001.

    The master key is needed only for more than four digits.
    """

    async def work(store: Store) -> Standing:
        more = len(end) > apps.END_CHARS
        keyring = await apps.open_keyring(store, masters) if more else None
        left = await apps.drop_key(store, sdkappid, end, by=acting(), keyring=keyring)
        return await _standing(store, left)

    print_json(_shown(with_store(store_url, work)))


@app_group.command("delete")
@sdkappid_argument
@click.option("--erase", is_flag=True, help="Also when records wait for it: erase them.")
@store_option
@plainly
def delete_app(sdkappid: int, erase: bool, store_url: str) -> None:
    """Remove an application: its calls get 1019 from then on.

    What it was handed stays in the store for the retention time, for operators only: one that is
    made later under the same number gets none of it. A removal that was cut off is finished by
    calling this again; until then the application may be refused everything, as if it were gone.
    """
    erased = with_store(
        store_url,
        lambda store: apps.delete_application(store, sdkappid, by=acting(), erase=erase),
    )
    print_json({"deleted": sdkappid, "erased": erased})
