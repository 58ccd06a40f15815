"""`pullstatus readers ...`: who has which page in hand, and taking one away."""

from __future__ import annotations

import click

from pullstatus.cli.acting import acting
from pullstatus.cli.lazy import Group
from pullstatus.cli.numbers import SDKAPPID
from pullstatus.cli.output import json_option, moment, print_json, print_rows
from pullstatus.cli.service import KINDS
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.cli.texts import FILLED
from pullstatus.errors import InvalidSetting, SettingChanged
from pullstatus.store import Mailbox, ReaderState, Release, Store

COLUMNS = ["reader", "sdkappid", "type", "pull_id", "records", "taken", "given"]


@click.group("readers", cls=Group)
def readers_group() -> None:
    """Readers: consumers that acknowledge their pages, and the page in the hand of each."""


@readers_group.command("list")
@click.option("--sdkappid", type=SDKAPPID, help="Only this application's.")
@click.option("--idle", is_flag=True, help="Those without a page in hand, too.")
@json_option
@store_option
@plainly
def list_readers(sdkappid: int | None, idle: bool, as_json: bool, store_url: str) -> None:
    """List who has which page in hand, the oldest first.

    A page that stays in a hand for long was handed to a program that died, or that does not
    acknowledge; a page that was given many times to one that fails with it, or to two programs
    under one name.
    """

    async def read(store: Store) -> list[ReaderState]:
        return [state async for state in store.readers(sdkappid) if idle or state.first_seq]

    found = sorted(
        with_store(store_url, read), key=lambda state: (not state.first_seq, state.taken_ms)
    )
    print_rows(
        [_shown(state) for state in found],
        as_json=as_json,
        columns=COLUMNS,
        empty="No reader has a page in hand.",
        wraps="reader",
    )


@readers_group.command("release")
@click.argument("reader")
@click.option("--sdkappid", type=SDKAPPID, required=True, help="The application.")
@click.option("--type", "kind", type=click.Choice(list(KINDS)), required=True, help="Which kind.")
@click.option("--reason", type=FILLED, required=True, help="Why; kept on record.")
@store_option
@plainly
def release(reader: str, sdkappid: int, kind: str, reason: str, store_url: str) -> None:
    """Take the page in hand from READER, on record, as if it had acknowledged it.

    For a program that comes no more. Its records count as handed out; `pullstatus redeliver --pull`
    hands them out again, to whoever pulls next.
    """
    mailbox = Mailbox(sdkappid, KINDS[kind])
    by = acting(reason)

    async def work(store: Store) -> tuple[ReaderState, int]:
        async for state in store.readers(sdkappid):
            if (state.mailbox, state.name) == (mailbox, reader) and state.first_seq:
                act = by.act(
                    "readers release", sdkappid=sdkappid, reader=reader, pull=state.pull_id
                )
                operation = Release(mailbox, reader, state.first_seq, by.now_ms, act)
                if count := await store.release(operation):
                    return state, count
                raise SettingChanged(
                    f"reader {reader} has moved on from page {state.pull_id} meanwhile, so nothing"
                    " was taken from it; `pullstatus readers list` shows what it has in hand now"
                )
        raise InvalidSetting(
            "no reader of this name has a page of these records in hand;"
            " `pullstatus readers list` shows those that have"
        )

    state, count = with_store(store_url, work)
    print_json({"released": state.pull_id, "records": count, "kept": state.kept})


def _shown(state: ReaderState) -> dict[str, object]:
    held = bool(state.first_seq)
    return {
        "reader": state.name,
        "sdkappid": state.mailbox.sdkappid,
        "type": int(state.mailbox.kind),
        "pull_id": state.pull_id,
        "records": state.count,
        "taken": moment(state.taken_ms) if held else None,
        "given": state.given,
        "came": moment(state.at_ms),
        "kept": state.kept,
    }
