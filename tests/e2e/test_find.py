"""`pullstatus find`: what became of each record of a number or a message, whoever it came by."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from pullstatus import limits
from pullstatus.apps import Application
from pullstatus.apps.values import NOBODY, application_setting
from pullstatus.cli import main
from pullstatus.cli.found import RECORD_COLUMNS
from pullstatus.errors import StoreUnavailable
from pullstatus.mailbox.names import Name
from pullstatus.mailbox.parking import live_application
from pullstatus.mailbox.pending import Item, wait
from pullstatus.receipts.parts import Part
from pullstatus.receipts.reports import Report
from pullstatus.records import Kind
from pullstatus.store import Change, open_store
from pullstatus.store.gathering.store import GatheredStore
from tests.e2e.test_cli import on_a_terminal
from tests.e2e.test_readers import Reader
from tests.harness import STATUS, App, Program, reply, status

SDKAPPID = 1400006666
_numbers = itertools.count(10_000_000)


@pytest.fixture
def mobile() -> str:
    """Of nobody else on the shared server."""
    return f"139{next(_numbers)}"


def find(program: Program, *how: str) -> list[dict[str, Any]]:
    found = program.cli("find", *how, "--json")
    assert isinstance(found, list)
    return found


def refused(program: Program, *how: str, exit_status: int = 1) -> str:
    done = CliRunner().invoke(main, ["find", *how, "--store", program.store])
    assert done.exit_code == exit_status, done.output
    return done.output


def test_each_record_is_shown_with_what_became_of_it(
    shared: Program, app: App, mobile: str
) -> None:
    """Who it came by, when, to whom it went, in which pull, and whether that was acknowledged."""
    number = str(app.sdkappid)
    carrier = shared.create_token(f"carrier-{number}", app=app)
    shared.feed(app, [status(1, mobile=mobile, sid="a"), status(2)])
    mine = [status(1, mobile=mobile, sid="b", errmsg="MK:0001"), status(1, mobile=mobile, sid="c")]
    assert shared.ingest(app, STATUS, mine, token=carrier).http_status == 200
    shared.feed(app, [reply(1, mobile=mobile)])
    keyed = shared.pull(app, max=2, key="mine")
    with Reader(f"http://{shared.host}:{shared.port}", app, "billing") as reader:
        reader.pull(1)
        reader.pull(1, Pullstatus_Ack=str(reader.ack), Pullstatus_Take="0")
    one, two, three, answered = find(shared, "--number", f"+86{mobile}", "--app", number)
    assert one["record"] == status(1, mobile=mobile, sid="a")
    assert (one["state"], one["pull_id"]) == ("handed out", keyed.header("pullstatus-pull-id"))
    assert (one["key"], one["reader"], one["tokens"]) == ("mine", None, ["feeder"])
    assert (one["address"], one["acknowledged"]) == ("127.0.0.1", None)
    assert (two["first"], two["state"], two["reader"]) == (3, "handed out", "billing")
    assert two["acknowledged"]
    assert two["tokens"] == [f"carrier-{number}"]
    assert (three["state"], three["place"], three["record"]["sid"]) == ("waiting", 1, "c")
    assert (answered["type"], answered["state"], answered["place"]) == (1, "waiting", 1)
    assert find(shared, "--sid", "b", "--sdkappid", number) == [two]
    assert find(shared, "--number", mobile, "--from", "1h", "--app", number)[-1] == answered


def test_on_a_terminal_it_is_a_table(
    shared: Program, app: App, mobile: str, tmp_path: Path
) -> None:
    """Which names the pull's key and its reader, as JSON does, as far as there is room."""
    number = str(app.sdkappid)
    shared.feed(app, [status(1, mobile=mobile, errmsg="MK:0001"), *[status(1, mobile=mobile)] * 2])
    key = "page/" * 12 + "end"
    keyed = shared.pull(app, max=1, key=key)
    with Reader(f"http://{shared.host}:{shared.port}", app, "billing") as reader:
        reader.pull(1)
    command = f"find --number {mobile} --app {number} --store {shared.store}"
    head, *rows = on_a_terminal(tmp_path, command, columns=400).splitlines()
    assert head.split() == RECORD_COLUMNS
    one, two, three = rows[1:]
    for said in (f"+86 {mobile}", "MK:0001", keyed.header("pullstatus-pull-id"), "127.0.0.1", key):
        assert str(said) in one
    assert "billing" in two
    assert key not in two + three
    assert "waits at 1" in three
    folded = on_a_terminal(tmp_path, command, columns=180).splitlines()
    assert "key" in folded[0]
    assert key[:16] in folded[2]
    assert key not in folded[2]
    narrow = on_a_terminal(tmp_path, command, columns=100)
    assert re.search(r"No room for .*reader, key, ", narrow)
    assert "MK:0001" in narrow


def test_a_place_counts_what_was_erased_as_waiting_does(
    shared: Program, app: App, mobile: str
) -> None:
    """Until all before it has left."""
    other = f"138{mobile[3:]}"
    sent = [status(1), status(1, mobile=other), status(1, mobile=mobile), status(1, mobile=other)]
    shared.feed(app, [*sent, status(1, mobile=mobile, sid="last")])
    shared.cli("erase", "--number", f"+86{other}", "--reason", "asked for")
    number = str(app.sdkappid)
    places = [row["place"] for row in find(shared, "--number", mobile, "--app", number)]
    assert places == [3, 5]
    pulled = shared.pull(app, max=2)
    assert (len(pulled.data), pulled.waiting) == (2, 2)
    [_, last] = find(shared, "--number", mobile, "--app", number)
    assert (last["record"]["sid"], last["place"]) == ("last", 2)
    assert len(shared.pull(app).data) == 1


def test_copies_and_what_came_by_a_revoked_token(shared: Program, app: App, mobile: str) -> None:
    number = str(app.sdkappid)
    token = shared.create_token(f"short-{number}", app=app)
    assert (
        shared.ingest(app, STATUS, [status(1, mobile=mobile, sid="a")], token=token).http_status
        == 200
    )
    shared.cli("token", "revoke", f"short-{number}")
    shared.pull(app)
    shared.cli("redeliver", "--number", mobile, "--reason", "lost")
    origin, copy = find(shared, "--number", mobile)
    assert (origin["copies"], copy["copy_of"], copy["place"]) == ([2], 1, 1)
    assert origin["tokens"] == copy["tokens"] == [f"short-{number}"]


def test_what_could_not_be_read_is_looked_through(shared: Program, app: App, mobile: str) -> None:
    """And once it was read at last, it still tells by which token it came."""
    number = str(app.sdkappid)
    name = f"callbacks-{number}"
    token = shared.create_token(name, app=app)
    bad = json.dumps([{"nationcode": "86", "mobile": mobile, "sid": "8:x", "report_status": 7}])
    assert shared.post(f"/callbacks/{token}", bad.encode()).http_status == 200
    good = json.dumps([status(1, mobile=mobile, sid="8:y")])
    assert shared.post(f"/callbacks/{token}", good.encode()).http_status == 200
    for how in (["--number", mobile], ["--number", f"+86{mobile}"], ["--number", f"86{mobile}"]):
        record, item = find(shared, *how, "--app", number)
        assert (item["state"], item["item"], item["tokens"]) == ("parked", 1, [name])
        assert item["reason"]
        assert record["tokens"] == [name]
    assert [row["state"] for row in find(shared, "--sid", "8:x", "--app", number)] == ["parked"]
    assert refused(shared, "--sid", "8:", "--app", number)


@pytest.mark.parametrize("written", ["00{}", "+{}", "0 0-{}", "{}"])
def test_what_could_not_be_read_is_looked_through_for_a_number_behind_00(
    shared: Program, app: App, mobile: str, written: str
) -> None:
    """Also by who has it erased: nothing of it stays."""
    number = str(app.sdkappid)
    token = shared.create_token(f"callbacks-{number}", app=app)
    bad = json.dumps([{"from": written.format(f"86{mobile}")}, {"from": f"2{mobile}"}])
    assert shared.post(f"/callbacks/{token}", bad.encode()).http_status == 200
    for how in (f"+86{mobile}", f"0086{mobile}"):
        assert [row["item"] for row in find(shared, "--number", how, "--app", number)] == [1]
    erased = shared.cli("erase", "--number", f"0086{mobile}", "--dry-run")
    assert erased == {"waiting": 0, "handed_out": 0, "parked": 1}


def test_search_is_on_record_without_what_was_looked_for(
    shared: Program, app: App, mobile: str
) -> None:
    """Also one that finds nothing, and what a dry run of a redelivery shows."""
    number = str(app.sdkappid)
    shared.feed(app, [status(1, mobile=mobile, sid="8:secret")])
    find(shared, "--number", mobile, "--app", number, "--reason", "they asked")
    find(shared, "--sid", "8:secret", "--app", number)
    refused(shared, "--number", f"{mobile}7", "--app", number)
    looked = ("--dry-run", "--reason", "they rang")
    shared.cli("redeliver", "--number", mobile, "--sdkappid", number, *looked)
    acts = shared.cli("acts", "list", "--sdkappid", number, "--json")[:4][::-1]
    assert [act["action"] for act in acts] == ["find"] * 4
    of = [f"{number}/delivery-statuses"]
    assert [act["detail"] for act in acts] == [
        {"by": "number", "sdkappid": app.sdkappid, "count": 1, "mailboxes": of},
        {"by": "sid", "sdkappid": app.sdkappid, "count": 1, "mailboxes": of},
        {"by": "number", "sdkappid": app.sdkappid, "count": 0, "mailboxes": []},
        {"by": "number", "sdkappid": app.sdkappid, "count": 1, "mailboxes": of},
    ]
    assert [act["reason"] for act in acts] == ["they asked", "", "", "they rang"]
    assert mobile not in json.dumps(acts)
    assert "secret" not in json.dumps(acts)


def test_nothing_is_shown_that_cannot_be_put_on_record(
    shared: Program, app: App, mobile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.feed(app, [status(1, mobile=mobile)])

    async def fail(*_: object, **__: object) -> bool:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(GatheredStore, "change", fail)
    told = refused(shared, "--number", mobile, "--json")
    assert "the disk is full" in told
    assert mobile not in told


def test_nothing_ends_with_1_and_says_how_far_back_it_looked(
    shared: Program, app: App, mobile: str
) -> None:
    number = str(app.sdkappid)
    told = refused(shared, "--number", mobile, "--app", number)
    assert "no record at all is stored there" in told
    shared.feed(app, [status(1, mobile=mobile)])
    told = refused(shared, "--sid", "nobody", "--app", number)
    assert re.search(r"nothing in the last 1 days; what is stored goes back to 20\d\d-", told)
    told = refused(shared, "--number", mobile, "--app", number, "--from", "2h", "--to", "1h")
    assert "nothing in that time, and some at other times" in told


def test_more_than_anybody_reads_is_to_be_narrowed(
    shared: Program, app: App, mobile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is all in memory; and nothing of it is shown."""
    number, other = str(app.sdkappid), shared.spare_app()
    monkeypatch.setattr(limits, "FOUND_COUNT_MAX", 3)
    shared.feed(app, [status(1, mobile=mobile, sid="8:many")] * 3)
    shared.feed(other, [status(1, mobile=mobile, sid="8:many")])
    assert len(find(shared, "--number", mobile, "--app", number)) == 3
    for how in (["--number", mobile], ["--sid", "8:many"], ["--sid", "8:many", "--from", "1h"]):
        told = refused(shared, *how)
        assert "over 3 records match: narrow the range, by --from and --to, or by" in told
        assert mobile not in told
    told = refused(shared, "--sid", "8:many", "--to", "1h")
    assert "nothing in that time, and some at other times" in told


def test_it_is_told_one_thing(shared: Program) -> None:
    for how in ([], ["--number", "1", "--sid", "a"]):
        assert "give --number or --sid" in refused(shared, *how, exit_status=2)
    for number in ("12a", "138****5678", "(0171 234", "[", "+"):
        assert "a number is digits" in refused(shared, "--number", number)
    assert "a sid is not empty" in refused(shared, "--sid", "")


@pytest.mark.parametrize("number", [SDKAPPID, NOBODY], ids=["an application's", "nobody's yet"])
def test_what_is_pending_is_looked_through(tmp_path: Path, number: int) -> None:
    """It has come, and is no record yet: that is not nothing."""
    url = f"sqlite:///{tmp_path}/store.db?file-system=any"
    name = Report(Kind.DELIVERY_STATUS, b'{"to":"+8613900000001","id":"8:x"}', id="8:x")
    part = Report(
        Kind.REPLY, b"from=%2B8613900000001&part=1", number="+8613900000001", part=Part("7", 2, 1)
    )

    bare = Report(Kind.DELIVERY_STATUS, b'{"id":"8:z"}', id="8:z")
    registered = Name(SDKAPPID, "", "8:mine", "", "86", "13900000003", 2, 1, 1)

    async def put() -> None:
        store = await open_store(f"{url}&commits=thread")
        items = [Item("kannel", "carrier", 1_800_000_000_000, report) for report in (name, part)]
        items.append(Item("kannel", "carrier", 1_800_000_000_000, bare, name=registered))
        setting = msgspec.json.encode(Application(SDKAPPID, (), 0))
        await store.change(Change(application_setting(SDKAPPID), setting, None))
        live = None if number == NOBODY else await live_application(store, number)
        await wait(store, live, items, sender="carrier", now_ms=0, ticket=b"t" * 16)
        await store.close()

    asyncio.run(put())

    def found(*how: str) -> list[dict[str, Any]]:
        done = CliRunner().invoke(main, ["find", *how, "--json", "--store", url])
        assert done.exit_code == 0, done.output
        rows = json.loads(done.stdout)
        assert isinstance(rows, list)
        return rows

    for how in ("13900000001", "+8613900000001", "008613900000001"):
        rows = found("--number", how)
        assert [(row["state"], row["waits_for"]) for row in rows] == [
            ("pending", "its send"),
            ("pending", "its other parts"),
        ]
        assert {(row["sdkappid"], *row["tokens"]) for row in rows} == {(number, "carrier")}
    for one in (("--sid", "8:x"), ("--sid", "8:mine"), ("--number", "+8613900000003")):
        assert [row["state"] for row in found(*one)] == ["pending"]
    done = CliRunner().invoke(main, ["find", "--number", "+8613900000002", "--store", url])
    assert done.exit_code == 1


def test_records_of_a_pull_are_shown_on_record_alone(
    shared: Program, app: App, mobile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = str(app.sdkappid)
    shared.feed(app, [status(1, mobile=mobile)])
    pull_id = str(shared.pull(app).header("pullstatus-pull-id"))
    assert "data" not in shared.cli("pulls", "show", pull_id)
    acts = shared.cli("acts", "list", "--sdkappid", number, "--json")
    assert "pulls show" not in [act["action"] for act in acts]
    shown = shared.cli("pulls", "show", pull_id, "--records", "--reason", "a test")
    assert shown["data"] == [status(1, mobile=mobile)]
    act = shared.cli("acts", "list", "--sdkappid", number, "--json")[0]
    assert (act["action"], act["reason"]) == ("pulls show", "a test")
    assert mobile not in json.dumps(act)

    async def fails(*_given: object, **_named: object) -> None:
        raise StoreUnavailable("not now")

    monkeypatch.setattr(GatheredStore, "change", fails)
    line = ["pulls", "show", pull_id, "--records", "--store", shared.store]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 1
    assert mobile not in done.output
