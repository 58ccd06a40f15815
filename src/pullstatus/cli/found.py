"""How commands show what was found: each record, and what became of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from pullstatus.cli.output import moment, print_rows
from pullstatus.mailbox.finding import Awaited, Traced
from pullstatus.mailbox.parking import Parked
from pullstatus.mailbox.pending import piece_of
from pullstatus.mailbox.search import Found
from pullstatus.records.numbers import calling_code, e164
from pullstatus.store import Mailbox, Outcome

RUN_COLUMNS = ["pull_id", "at", "records", "address", "outcome", "key", "reader"]
RECORD_COLUMNS = [
    *("number", "report", "pull", "at", "address", "acknowledged", "accepted", "tokens"),
    *("mailbox", "reader", "key", "released", "copy_of", "copies", "former_owner"),
]


def print_found(
    found: Sequence[Traced],
    pending: Sequence[Awaited] = (),
    parked: Sequence[tuple[int, Parked]] = (),
    *,
    as_json: bool,
) -> None:
    """What was found, with the records themselves where single ones were looked for.

    Args:
        pending: what may be of it, and is no record yet.
        parked: items that may be of it, each with the number of its application.
    """
    as_json = as_json or not sys.stdout.isatty()
    told = _record if as_json else _gist
    single = bool(pending or parked) or any(one.found.entry for one in found)
    print_rows(
        [
            *(_run(one.found) | _fate(one) | told(one) for one in found),
            *map(_awaited, pending),
            *(_item(sdkappid, item) for sdkappid, item in parked),
        ],
        as_json=as_json,
        columns=RECORD_COLUMNS if single else RUN_COLUMNS,
        empty="Nothing.",
        wraps="key",
    )


def shown_range(mailbox: Mailbox, first_seq: int, count: int) -> dict[str, object]:
    """A run of records of one mailbox."""
    return {
        "sdkappid": mailbox.sdkappid,
        "type": int(mailbox.kind),
        "first": first_seq,
        "records": count,
    }


def _run(one: Found) -> dict[str, object]:
    return shown_range(one.mailbox, one.first_seq, one.count)


def _fate(one: Traced) -> dict[str, object]:
    """What became of it."""
    row = one.found.row
    if row is None:
        return {"state": "waiting", "place": one.place}
    pulled = row.outcome is Outcome.PULLED
    handed = "in hand" if row.in_hand else "handed out"
    return {
        "state": handed if pulled else row.outcome.name.lower(),
        "at": moment(row.at_ms),
        "pull_id": row.pull_id if pulled else None,
        "address": row.address if pulled else None,
        "key": row.key,
        "reader": row.reader,
        "acknowledged": row.acked_ms and moment(row.acked_ms),
        "released": row.released_ms and moment(row.released_ms),
    }


def _record(one: Traced) -> dict[str, object]:
    entry = one.found.entry
    if entry is None:
        return {}
    return {
        "accepted": moment(entry.accepted_ms),
        "tokens": one.tokens,
        "copy_of": one.found.copy_of,
        "copies": one.found.copies,
        "former_owner": one.found.former,
        "record": msgspec.Raw(entry.data),
    }


def _gist(one: Traced) -> dict[str, object]:
    """A record as far as a table has room for it."""
    found = one.found
    if found.entry is None:
        return {}
    record = msgspec.json.decode(found.entry.data)
    code = f"+{calling_code(record['nationcode'])}"
    mobile = e164(record["nationcode"], record["mobile"]).removeprefix(code)
    fate = _fate(one)
    waits = f"waits at {one.place}" if one.place else None
    return {
        "pull": fate.get("pull_id") or waits or fate["state"],
        "number": f"{code} {mobile}",
        "report": record.get("errmsg", "reply"),
        "accepted": moment(found.entry.accepted_ms),
        "tokens": list(one.tokens),
        "mailbox": str(found.mailbox),
        "copy_of": found.copy_of,
        "copies": list(found.copies),
        "former_owner": found.former,
    }


def _awaited(one: Awaited) -> dict[str, object]:
    """What is no record yet, and what it waits for."""
    item = one.item
    what = "its send" if piece_of(item.report, item.name) is None else "its other parts"
    return {
        "sdkappid": one.mailbox.sdkappid,
        "state": "pending",
        "pull": f"waits for {what}",
        "waits_for": what,
        "accepted": moment(item.at_ms),
        "tokens": [item.token],
        "address": item.asked.address,
        "mailbox": str(one.mailbox),
    }


def _item(sdkappid: int, parked: Parked) -> dict[str, object]:
    """An item that could not be read, in which what was looked for stands."""
    assert parked.item is not None
    return {
        "sdkappid": sdkappid,
        "state": "parked",
        "pull": f"parked as {parked.number}",
        "item": parked.number,
        "accepted": moment(parked.item.at_ms),
        "tokens": [parked.item.token],
        "address": parked.item.address,
        "reason": parked.item.reason,
        "mailbox": f"{sdkappid}/parked",
    }
