"""Commands about secret key pairs, and what becomes of the pairs when a store goes elsewhere."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path

import apsw
import pytest

from pullstatus import Client, ClientError, Kind
from pullstatus.apps import Registry, masters_beside
from pullstatus.cli.session import with_store
from pullstatus.store import Store
from tests.e2e.conftest import master_key
from tests.e2e.test_at_rest import holding
from tests.e2e.test_cli import bad, good, on_a_terminal, run
from tests.harness import FORGIVING, PATIENCE_S, Program
from tools.postgresql import PostgreSQL

ID, KEY = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the default store has applications 7 and 8."""
    for number in "78":
        good(tmp_path, "app", "create", number)
    (tmp_path / "key").write_text(f"{KEY}\n")
    return tmp_path


def opened(file: Path) -> dict[str, str]:
    """The SecretKeys of all pairs in a store, as a server that starts now opens them."""
    store_url = f"sqlite:///{file}"

    async def read(store: Store) -> dict[str, str]:
        registry = Registry(store, masters_beside(store_url))
        await registry.begin()
        return {secret_id: known.secret_key for secret_id, known in registry.pairs.items()}

    return with_store(store_url, read)


def test_a_pair_is_shown_once_and_changed_and_revoked(folder: Path) -> None:
    made = good(folder, "secret", "create", "--app", "8", "--app", "7", "--app", "8")
    assert re.fullmatch("AKID[0-9A-Za-z]{32}", made["secret_id"])
    assert re.fullmatch("[0-9A-Za-z]{32}", made["secret_key"])
    secret_id = made["secret_id"]
    [listed] = good(folder, "secret", "list")
    assert listed == {name: made[name] for name in listed}
    assert listed == {
        "secret_id": secret_id,
        "sdkappids": [7, 8],
        "void": [],
        "enabled": True,
        "unsigned_payload": False,
        "v1": False,
        "created": made["created"],
        "last_used": None,
        "last_used_from": None,
    }
    changed = good(folder, "secret", "set", secret_id, "--app", "7", "--v1", "on")
    assert changed == listed | {"sdkappids": [7], "v1": True}
    assert good(folder, "secret", "list", "--app", "8") == []
    assert good(folder, "secret", "disable", secret_id)["enabled"] is False
    assert good(folder, "secret", "list", "--app", "7") == [changed | {"enabled": False}]
    assert good(folder, "secret", "enable", secret_id) == changed
    assert good(folder, "secret", "revoke", secret_id) == {"revoked": secret_id}
    assert good(folder, "secret", "list", "--json") == []
    acts = good(folder, "acts", "list", "--sdkappid", "7", "--json")
    actions = [act["action"] for act in acts if act["action"].startswith("secret")]
    words = ("create", "set", "disable", "enable", "revoke")
    assert actions[::-1] == [f"secret {word}" for word in words]
    assert made["secret_key"] not in json.dumps(acts)
    for command in (["set", secret_id, "--v1", "off"], ["enable", secret_id], ["revoke", "x"]):
        assert "secret list" in bad(folder, "secret", *command)


def test_what_is_given_wrongly_is_said_and_not_repeated(folder: Path) -> None:
    (folder / "bad").write_text(KEY + "x")
    for arguments, text, status in (
        ([], "--app", 2),
        (["--app", "9"], "application 9 does not exist", 1),
        (["--app", "0"], "an sdkappid is a number", 1),
        (["--app", "7", "--secret-id", ID], "need each other", 2),
        (["--app", "7", "--secret-key-file", "key"], "need each other", 2),
        (["--app", "7", "--secret-id", ID[1:], "--secret-key-file", "key"], "a SecretId is", 1),
        (["--app", "7", "--secret-id", ID, "--secret-key-file", "bad"], "a SecretKey is", 1),
    ):
        told = bad(folder, "secret", "create", *arguments, exit_status=status)
        assert text in told
        assert KEY not in told
    assert "name what to change" in bad(folder, "secret", "set", ID, exit_status=2)
    for _ in range(2):
        good(folder, "secret", "create", "--app", "7")
    assert "revoke one first" in bad(folder, "secret", "create", "--app", "8", "--app", "7")
    assert len(good(folder, "secret", "list")) == 2


def test_on_a_terminal_pairs_are_a_table(folder: Path) -> None:
    assert "secret create --app" in on_a_terminal(folder, "secret list")
    good(folder, "secret", "create", "--app", "7", "--app", "8", "--v1", "--unsigned-payload")
    good(folder, "app", "delete", "8")
    text = on_a_terminal(folder, "secret list", columns=160)
    assert re.search(r"AKID\w{32} +7 +unsigned payload, v1, 1 void", text)
    assert "reads this application" in on_a_terminal(folder, "secret list --app 8")


def test_a_pair_goes_with_its_store_wherever_that_goes(folder: Path) -> None:
    """Sealed, under whichever master key, and not without one; and its SecretKey is in no file."""
    store = folder / "pullstatus.db"
    given = ("--secret-id", ID, "--secret-key-file", "key")
    assert good(folder, "secret", "create", "--app", "7", *given)["secret_key"] == KEY
    (folder / "key").unlink()
    good(folder, "backup", "copy.db")
    restore = ("restore", "copy.db", "--store", "sqlite:///restored.db")
    assert "master key" in bad(folder, *restore)
    shutil.copy(f"{store}-master-key", folder / "restored.db-master-key")
    assert run(folder, *restore).exit_status == 0
    assert opened(folder / "restored.db") == {ID: KEY}
    [state] = good(folder, "keys", "rewrap", "--drop-old")
    assert (state["appkeys"], state["secrets"]) == (2, 1)
    assert opened(store) == {ID: KEY}
    shutil.copy(f"{store}-master-key", folder / "moved.db-master-key")
    moved = ("--from", f"sqlite:///{store}", "--to", f"sqlite:///{folder}/moved.db")
    assert run(folder, "migrate", *moved).exit_status == 0
    assert opened(folder / "moved.db") == {ID: KEY}
    there = ("--store", "sqlite:///moved.db")
    assert good(folder, "audit", *there)["sound"]
    assert [pair["secret_id"] for pair in good(folder, "secret", "list", *there)] == [ID]
    assert holding(folder, KEY) == {}


def test_audit_sees_a_pair_that_nobody_has_set(folder: Path) -> None:
    good(folder, "secret", "create", "--app", "7")
    with contextlib.closing(apsw.Connection(str(folder / "pullstatus.db"))) as connection:
        connection.execute(
            "UPDATE setting SET value = CAST(replace(CAST(value AS TEXT), 'AKID', 'AKIX') AS BLOB)"
            " WHERE name GLOB 'secret/*'"
        )
    found = run(folder, "audit")
    assert found.exit_status == 1
    assert "secret/AKID" in found.stderr


def test_running_servers_heed_what_is_done_to_a_pair(tmp_path: Path) -> None:
    """What is made is good for the next call, what is taken away soon is not; so say both."""

    def code() -> str:
        try:
            with Client(address, 7, secret_id=ID, secret_key=KEY, timeout_s=PATIENCE_S) as client:
                client.pull(Kind.DELIVERY_STATUS)
        except ClientError as error:
            return type(error).__name__
        return ""

    def refused(of: int) -> bool:
        """Whether so many calls, which any worker may get, are."""
        return all(code() for _ in range(of))

    with Program(tmp_path, "--workers", "2", command=FORGIVING) as program:
        address = f"http://{program.host}:{program.port}"
        program.cli("app", "create", "7")
        (tmp_path / "key").write_text(KEY)
        given = ("--secret-id", ID, "--secret-key-file", str(tmp_path / "key"))
        assert code() == "SignatureRefused"
        program.cli("secret", "create", "--app", "7", *given)
        assert [code() for _ in range(4)] == [""] * 4
        program.cli("secret", "disable", ID)
        program.until(lambda: refused(6))
        program.cli("secret", "enable", ID)
        assert [code() for _ in range(4)] == [""] * 4
        program.cli("app", "delete", "7")
        program.until(lambda: refused(6))
        program.cli("app", "create", "7")
        assert refused(6)
        program.cli("secret", "set", ID, "--app", "7")
        assert [code() for _ in range(4)] == [""] * 4
        program.cli("secret", "revoke", ID)
        program.until(lambda: refused(6))
        program.cli("secret", "create", "--app", "7", *given)
        assert code() == ""
    [listed] = program.cli("secret", "list")
    assert listed["last_used_from"] == "127.0.0.1"
    assert KEY not in program.log()


def test_a_pair_lies_in_a_database_as_in_a_file(tmp_path: Path, postgresql: PostgreSQL) -> None:
    with postgresql.database() as store, master_key(tmp_path) as named:
        program = Program(tmp_path, store=store, environment=named)
        program.cli("app", "create", "7")
        made = [program.cli("secret", "create", "--app", "7") for _ in range(2)]
        where = ("--store", store, "--master-key-file", named["PULLSTATUS_MASTER_KEY_FILE"])
        assert "revoke one first" in bad(tmp_path, "secret", "create", "--app", "7", *where)
        [state] = program.cli("keys", "list")
        assert (state["appkeys"], state["secrets"]) == (1, 2)
        pair = {name: made[0][name] for name in ("secret_id", "secret_key")}
        with program:
            address = f"http://{program.host}:{program.port}"
            with Client(address, 7, **pair) as client:
                assert not client.pull(Kind.DELIVERY_STATUS)
        used = {one["secret_id"]: one["last_used_from"] for one in program.cli("secret", "list")}
        assert used == {made[0]["secret_id"]: "127.0.0.1", made[1]["secret_id"]: None}
        assert program.cli("audit")["sound"]
