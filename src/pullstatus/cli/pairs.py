"""`pullstatus secret ...`: the secret key pairs that calls of API 3.0 are signed with."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pullstatus import apps
from pullstatus.apps import Masters, PairStanding
from pullstatus.cli.acting import acting
from pullstatus.cli.lazy import Group
from pullstatus.cli.master_keys import with_masters
from pullstatus.cli.numbers import SDKAPPID
from pullstatus.cli.output import json_option, moment, print_json, print_rows, say
from pullstatus.cli.service import read_file
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.errors import PullstatusError
from pullstatus.store import Store

secret_id_argument = click.argument("secret_id", metavar="SECRETID")
switch = click.Choice(["on", "off"])


@click.group("secret", cls=Group)
def secret_group() -> None:
    """Secret key pairs: what calls of API 3.0 are signed with.

    A pair is an account's, and reads the applications that it was granted. What is made or allowed
    here is good for the next request to a running server; what is taken away is refused within a
    second.
    """


@secret_group.command("create")
@click.option(
    "--app",
    "sdkappids",
    type=SDKAPPID,
    multiple=True,
    required=True,
    metavar="SDKAPPID",
    help="An application that it may read; repeatable. It has two pairs at most.",
)
@click.option(
    "--unsigned-payload",
    is_flag=True,
    help="Take calls whose body is not signed: whoever stands in between can change it.",
)
@click.option(
    "--v1",
    is_flag=True,
    help="Take the older signatures, HmacSHA1 and HmacSHA256. Those of a GET are in every proxy's"
    " log, and good for five minutes.",
)
@click.option(
    "--secret-id",
    metavar="AKID...",
    help="Use this SecretId, of an account that is configured already; with --secret-key-file.",
)
@click.option(
    "--secret-key-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    help="File that holds the SecretKey to use; - is standard input.",
)
@store_option
@with_masters
@plainly
def create_secret(
    sdkappids: tuple[int, ...],
    unsigned_payload: bool,
    v1: bool,
    secret_id: str | None,
    secret_key_file: Path | None,
    store_url: str,
    masters: Masters,
) -> None:
    """Make a secret key pair and print it as JSON. Its SecretKey is shown this once."""
    if (secret_id is None) != (secret_key_file is None):
        raise click.UsageError("--secret-id and --secret-key-file need each other")
    given = None if secret_key_file is None else read_file(secret_key_file, "--secret-key-file")

    async def make(store: Store) -> None:
        pair = await apps.create_pair(
            store,
            sdkappids,
            by=acting(),
            keyring=await apps.open_keyring(store, masters),
            unsigned_payload=unsigned_payload,
            v1=v1,
            secret_id=secret_id,
            secret_key=given,
        )
        shown = _shown(PairStanding(pair, pair.sdkappids, (), None))
        print_json({"secret_id": pair.id, "secret_key": pair.secret_key, **shown})

    with_store(store_url, make)


@secret_group.command("list")
@click.option(
    "--app", "sdkappid", type=SDKAPPID, metavar="SDKAPPID", help="Only those that read it."
)
@json_option
@store_option
@plainly
def list_secrets(sdkappid: int | None, as_json: bool, store_url: str) -> None:
    """List all secret key pairs, without their SecretKeys, and when each was used last.

    That is seen a minute later. Applications that are gone, or have another owner since, are not
    read any more: they are in `void`.
    """
    found = [
        standing
        for standing in with_store(store_url, apps.pairs)
        if sdkappid is None or sdkappid in standing.live
    ]
    terminal = sys.stdout.isatty() and not as_json
    print_rows(
        [_row(each) if terminal else _shown(each) for each in found],
        as_json=as_json,
        columns=["secret_id", "sdkappids", "notes", "last_used", "last_used_from", "created"],
        wraps="sdkappids",
        empty="No secret key pairs yet: pullstatus secret create --app SDKAPPID makes one."
        if sdkappid is None
        else "No secret key pair reads this application.",
    )


@secret_group.command("set")
@secret_id_argument
@click.option(
    "--app",
    "sdkappids",
    type=SDKAPPID,
    multiple=True,
    metavar="SDKAPPID",
    help="An application that it may read, in place of all others; repeatable.",
)
@click.option("--unsigned-payload", type=switch, help="Take calls whose body is not signed.")
@click.option("--v1", type=switch, help="Take the older signatures.")
@store_option
@plainly
def set_secret(
    secret_id: str,
    sdkappids: tuple[int, ...],
    unsigned_payload: str | None,
    v1: str | None,
    store_url: str,
) -> None:
    """Change what a secret key pair may do; what is not named stays."""
    switches = {
        name: value == "on"
        for name, value in (("unsigned_payload", unsigned_payload), ("v1", v1))
        if value is not None
    }
    if not sdkappids and not switches:
        raise click.UsageError("name what to change; see --help")
    _change(secret_id, store_url, "secret set", sdkappids or None, **switches)


@secret_group.command("enable")
@secret_id_argument
@store_option
@plainly
def enable_secret(secret_id: str, store_url: str) -> None:
    """Let a secret key pair call again."""
    _change(secret_id, store_url, "secret enable", enabled=True)


@secret_group.command("disable")
@secret_id_argument
@store_option
@plainly
def disable_secret(secret_id: str, store_url: str) -> None:
    """Refuse a secret key pair's calls, as if it was none. It still counts as one of two."""
    _change(secret_id, store_url, "secret disable", enabled=False)


@secret_group.command("revoke")
@secret_id_argument
@store_option
@plainly
def revoke_secret(secret_id: str, store_url: str) -> None:
    """Make a secret key pair good for nothing, for ever."""
    with_store(store_url, lambda store: apps.revoke_pair(store, secret_id, by=acting()))
    print_json({"revoked": secret_id})


def _change(
    secret_id: str,
    store_url: str,
    action: str,
    sdkappids: tuple[int, ...] | None = None,
    **switches: bool,
) -> None:
    async def work(store: Store) -> PairStanding:
        pair = await apps.change_pair(
            store, secret_id, by=acting(), action=action, sdkappids=sdkappids, **switches
        )
        try:
            return await apps.pair_standing(store, secret_id)
        except PullstatusError as error:  # that it was changed is told in any case
            say(f"how it stands cannot be read now: {error}", err=True)
            return PairStanding(pair, pair.sdkappids, (), None)

    print_json(_shown(with_store(store_url, work)))


def _shown(standing: PairStanding) -> dict[str, object]:
    """What may be seen of a pair: all but its SecretKey."""
    pair, used = standing.pair, standing.used
    return {
        "secret_id": pair.id,
        "sdkappids": list(standing.live),
        "void": list(standing.void),
        "enabled": pair.enabled,
        "unsigned_payload": pair.unsigned_payload,
        "v1": pair.v1,
        "created": moment(pair.created_ms),
        "last_used": used and moment(used.at_ms),
        "last_used_from": used and used.place,
    }


def _row(standing: PairStanding) -> dict[str, object]:
    """A line of a table: of the switches those that are not as usual."""
    pair = standing.pair
    notes = {
        "disabled": not pair.enabled,
        "unsigned payload": pair.unsigned_payload,
        "v1": pair.v1,
        f"{len(standing.void)} void": bool(standing.void),
    }
    told = ", ".join(note for note, holds in notes.items() if holds)
    return {**_shown(standing), "notes": told}
