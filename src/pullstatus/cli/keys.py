"""`pullstatus keys ...`: the master keys that appkeys and secret keys are sealed under."""

from __future__ import annotations

import click

from pullstatus import apps
from pullstatus.apps import MasterKeyState, Masters, Shut
from pullstatus.cli.acting import acting
from pullstatus.cli.lazy import Group
from pullstatus.cli.master_keys import shut_told, with_masters
from pullstatus.cli.output import json_option, print_json, print_rows, say
from pullstatus.cli.session import leaves_traces, plainly, store_option, with_store
from pullstatus.cli.statuses import FAILED, TRACES
from pullstatus.errors import PullstatusError
from pullstatus.store import Store


@click.group("keys", cls=Group)
def keys_group() -> None:
    """Master keys: what appkeys and secret keys are sealed under.

    They are in no store and in no backup. Without the one that a store needs its keys cannot be
    read: keep a copy of it, apart from the backups.
    """


def _shown(state: MasterKeyState) -> dict[str, object]:
    return {
        "master_key": state.id,
        "at_hand": state.at_hand,
        "sealing": state.sealing,
        "appkeys": state.appkeys,
        "secrets": state.secrets,
        "signatures": state.signatures,
    }


@keys_group.command("list")
@json_option
@store_option
@with_masters
@plainly
def list_keys(as_json: bool, store_url: str, masters: Masters) -> None:
    """List the master keys that the store needs or that are at hand, by their ids."""
    states = with_store(store_url, lambda store: apps.master_keys(store, masters))
    print_rows(
        [_shown(state) for state in states],
        as_json=as_json,
        columns=["master_key", "at_hand", "sealing", "appkeys", "secrets", "signatures"],
        empty="No appkey is sealed yet: pullstatus app create SDKAPPID makes the first one.",
    )


async def _tell(store: Store, masters: Masters) -> Shut:
    """Print how the master keys stand that were changed just now, and what stays shut."""
    try:
        states = await apps.master_keys(store, masters)
        shut = await apps.shut_keys(store, masters)
    except PullstatusError as error:
        say(f"done; how the master keys stand cannot be read now: {error}", err=True)
        return Shut()
    print_json([_shown(state) for state in states])
    if shut:
        say(shut_told(shut, masters), err=True)
    return shut


@keys_group.command("rewrap")
@click.option(
    "--drop-old",
    is_flag=True,
    help="Forget the master keys before at the end. If that is all there is left to do, no new one"
    " is made.",
)
@click.option(
    "--lost",
    is_flag=True,
    help="The master key in use is lost: begin with another one. What it sealed stays shut:"
    " `app rotate-key --drop-old` replaces an appkey, `secret revoke` and `secret create` a pair.",
)
@store_option
@with_masters
@plainly
def rewrap(drop_old: bool, lost: bool, store_url: str, masters: Masters) -> None:
    """Bring all keys under a new master key; a running server goes on all the while.

    A master key that is in STORE-master-key is made, put in its first line and left beside the old
    one, which opens the backups made until now. Of another file, credential or command, the first
    line must be a new key already, and the server have been started with it. What was cut off is
    finished by calling this again. Where keys stay shut, since their master key is not at hand, it
    says how many, and ends with status 1.
    """
    if drop_old and lost:
        raise click.UsageError("--drop-old and --lost exclude each other")

    async def work(store: Store) -> tuple[bool, Shut]:
        if lost:
            await apps.begin_anew(store, masters, by=acting())
        else:
            await apps.rewrap(store, masters, by=acting(), drop_old=drop_old)
        traces = await leaves_traces(store, store_url)
        return traces, await _tell(store, masters)

    traces, shut = with_store(store_url, work)
    if shut and not lost:
        raise SystemExit(FAILED)
    if traces:
        raise SystemExit(TRACES)
