"""`pullstatus app ...` and `pullstatus token ...`: who may pull, who may feed."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable

import click
import msgspec

from pullstatus import apps
from pullstatus.apps import Application, Token
from pullstatus.cli.lazy import Group
from pullstatus.cli.output import json_option, moment, print_json, print_rows
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.errors import UnknownApplication

sdkappid_argument = click.argument("sdkappid", type=int)
appkey_option = click.option(
    "--appkey",
    metavar="HEX",
    help="Use this key (32 hexadecimal digits); made at random otherwise.",
)
switch = click.Choice(["on", "off"])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _shown(application: Application) -> dict[str, object]:
    """What may be seen of an application: all but its keys, of which the last four digits."""
    return {
        "sdkappid": application.sdkappid,
        "enabled": application.enabled,
        "pull": application.pull,
        "strict": application.single_use,
        "arrears": application.arrears,
        "allow": list(application.allow),
        "rate": application.pull_rate_max,
        "waiting_days": application.waiting_days_max,
        "created": moment(application.created_ms),
        "appkeys": [
            {"ends_with": key.appkey[-4:], "created": moment(key.created_ms)}
            for key in application.appkeys
        ],
    }


def _print_secret(application: Application) -> None:
    """An application together with its newest key: the one time that is shown."""
    print_json({"appkey": application.appkeys[0].appkey, **_shown(application)})


def _print_applications(found: list[Application], *, as_json: bool) -> None:
    rows = [_shown(application) for application in found]
    if sys.stdout.isatty() and not as_json:
        rows = [
            row | {"appkeys": [f"...{key.appkey[-4:]}" for key in application.appkeys]}
            for row, application in zip(rows, found, strict=True)
        ]
    print_rows(
        rows,
        as_json=as_json,
        columns=["sdkappid", "enabled", "pull", "strict", "allow", "rate", "appkeys", "created"],
        empty="No applications yet: pullstatus app create SDKAPPID makes one.",
    )


@click.group("app", cls=Group)
def app_group() -> None:
    """Applications: the customers who pull.

    What is made or allowed here is good for the next request to a running server; what is taken
    away is refused within a second.
    """


@app_group.command("create")
@sdkappid_argument
@appkey_option
@click.option("--no-pull", is_flag=True, help="Leave the pull feature off: calls get 1006.")
@store_option
@plainly
def create_app(sdkappid: int, appkey: str | None, no_pull: bool, store_url: str) -> None:
    """Make an application and print it as JSON. Its appkey is shown this once."""
    _print_secret(
        with_store(
            store_url,
            lambda store: apps.create_application(
                store,
                sdkappid,
                now_ms=_now_ms(),
                random_hex=secrets.token_hex,
                appkey=appkey,
                pull=not no_pull,
            ),
            create=True,
        )
    )


@app_group.command("list")
@json_option
@store_option
@plainly
def list_apps(as_json: bool, store_url: str) -> None:
    """List all applications."""
    _print_applications(with_store(store_url, apps.applications), as_json=as_json)


@app_group.command("show")
@sdkappid_argument
@json_option
@store_option
@plainly
def show_app(sdkappid: int, as_json: bool, store_url: str) -> None:
    """Show one application and how its mailboxes stand."""
    found = [
        application
        for application in with_store(store_url, apps.applications)
        if application.sdkappid == sdkappid
    ]
    if not found:
        raise UnknownApplication(f"application {sdkappid} does not exist")
    backlog = with_store(store_url, lambda store: store.backlog())
    mailboxes: list[dict[str, object]] = [
        {
            "kind": row.mailbox.kind.path,
            "accepted": row.accepted,
            "handed_out": row.handed_out,
            "waiting": row.waiting,
        }
        for row in backlog
        if row.mailbox.sdkappid == sdkappid
    ]
    if as_json or not sys.stdout.isatty():
        print_json({**_shown(found[0]), "mailboxes": mailboxes})
        return
    _print_applications(found, as_json=False)
    print_rows(
        mailboxes,
        as_json=False,
        columns=["kind", "accepted", "handed_out", "waiting"],
        empty="Nothing was accepted for it yet.",
    )


def _change(sdkappid: int, store_url: str, change: Callable[[Application], Application]) -> None:
    print_json(
        _shown(
            with_store(store_url, lambda store: apps.change_application(store, sdkappid, change))
        )
    )


@app_group.command("enable")
@sdkappid_argument
@store_option
@plainly
def enable_app(sdkappid: int, store_url: str) -> None:
    """Let an application call again."""
    _change(sdkappid, store_url, lambda app: msgspec.structs.replace(app, enabled=True))


@app_group.command("disable")
@sdkappid_argument
@store_option
@plainly
def disable_app(sdkappid: int, store_url: str) -> None:
    """Refuse an application's calls with 1020. Records for it are still accepted."""
    _change(sdkappid, store_url, lambda app: msgspec.structs.replace(app, enabled=False))


@app_group.command("set")
@sdkappid_argument
@click.option("--pull", type=switch, help="The pull feature; off: calls get 1006.")
@click.option("--strict", type=switch, help="Take each signature once; repeats get 1001.")
@click.option("--arrears", type=switch, help="Stopped for unpaid bills: calls get 1033.")
@click.option(
    "--allow", multiple=True, metavar="CIDR", help="Let calls in from this network; repeatable."
)
@click.option("--allow-any", is_flag=True, help="Let calls in from everywhere again.")
@click.option(
    "--rate", type=click.IntRange(0, 1_000_000), help="Pulls a second; 0 takes the limit away."
)
@click.option(
    "--waiting-days",
    type=click.IntRange(0, 3650),
    help="Days after which what nobody pulled expires; 0: never, as at first.",
)
@store_option
@plainly
def set_app(
    sdkappid: int,
    pull: str | None,
    strict: str | None,
    arrears: str | None,
    allow: tuple[str, ...],
    allow_any: bool,
    rate: int | None,
    waiting_days: int | None,
    store_url: str,
) -> None:
    """Change an application's switches and limits; what is not named stays."""
    changes: dict[str, object] = {
        name: value == "on"
        for name, value in (("pull", pull), ("single_use", strict), ("arrears", arrears))
        if value is not None
    }
    if allow and allow_any:
        raise click.UsageError("--allow and --allow-any contradict each other")
    if allow or allow_any:
        changes["allow"] = apps.check_networks(allow)
    if rate is not None:
        changes["pull_rate_max"] = rate or None
    if waiting_days is not None:
        changes["waiting_days_max"] = waiting_days or None
    if not changes:
        raise click.UsageError("name what to change; see --help")
    _change(sdkappid, store_url, lambda app: msgspec.structs.replace(app, **changes))


@app_group.command("rotate-key")
@sdkappid_argument
@appkey_option
@click.option("--drop-old", is_flag=True, help="End the old key now instead of keeping it beside.")
@store_option
@plainly
def rotate_key(sdkappid: int, appkey: str | None, drop_old: bool, store_url: str) -> None:
    """Give an application a new appkey, shown this once.

    The key before stays good beside it, so that clients can change one by one; the next rotation,
    or one with --drop-old, ends it.
    """
    _print_secret(
        with_store(
            store_url,
            lambda store: apps.rotate_key(
                store,
                sdkappid,
                now_ms=_now_ms(),
                random_hex=secrets.token_hex,
                appkey=appkey,
                drop_old=drop_old,
            ),
        )
    )


@app_group.command("delete")
@sdkappid_argument
@click.option("--erase", is_flag=True, help="Also when records wait for it: erase them.")
@store_option
@plainly
def delete_app(sdkappid: int, erase: bool, store_url: str) -> None:
    """Remove an application: its calls get 1019 from then on.

    What it was handed stays in the store for the retention time, for operators only: one that is
    made later under the same number gets none of it. A removal that was cut off is finished by
    calling this again.
    """
    erased = with_store(
        store_url,
        lambda store: apps.delete_application(store, sdkappid, now_ms=_now_ms(), erase=erase),
    )
    print_json({"deleted": sdkappid, "erased": erased})


@click.group("token", cls=Group)
def token_group() -> None:
    """Tokens: what gateways show to put records in.

    What is made or allowed here is good for the next request to a running server; what is taken
    away is refused within a second.
    """


@token_group.command("create")
@click.argument("name")
@click.option(
    "--sdkappid",
    type=int,
    help="The one application it may feed. Without it: every application, but not by /callbacks.",
)
@store_option
@plainly
def create_token(name: str, sdkappid: int | None, store_url: str) -> None:
    """Make a token and print it as JSON. Its secret is shown this once."""
    token, secret = with_store(
        store_url,
        lambda store: apps.create_token(
            store, name, now_ms=_now_ms(), random_hex=secrets.token_hex, sdkappid=sdkappid
        ),
        create=True,
    )
    print_json({"token": secret, **_shown_token(token)})


@token_group.command("list")
@json_option
@store_option
@plainly
def list_tokens(as_json: bool, store_url: str) -> None:
    """List all tokens, without their secrets."""
    print_rows(
        [_shown_token(token) for token in with_store(store_url, apps.tokens)],
        as_json=as_json,
        columns=["name", "sdkappid", "created"],
        empty="No tokens yet: pullstatus token create NAME makes one.",
    )


@token_group.command("revoke")
@click.argument("name")
@store_option
@plainly
def revoke_token(name: str, store_url: str) -> None:
    """Make a token good for nothing."""
    with_store(store_url, lambda store: apps.revoke_token(store, name))
    print_json({"revoked": name})


def _shown_token(token: Token) -> dict[str, object]:
    return {
        "name": token.name,
        "sdkappid": token.sdkappid,
        "created": moment(token.created_ms),
    }
