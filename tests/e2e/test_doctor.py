"""`pullstatus doctor`: a sound set-up of which all is well, and broken ones, each by its fault."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import trustme
from click.testing import CliRunner, Result
from rich.console import Console

from pullstatus.cli import main
from pullstatus.cli.doctor import (
    alarms,
    care,
    clock,
    command,
    disk,
    network,
    program,
    server,
    store,
    tls,
)
from pullstatus.cli.doctor.alarms import of_prometheus
from pullstatus.cli.doctor.findings import EXIT, Finding, Level, worst
from pullstatus.cli.doctor.store import Look
from pullstatus.cli.scrape import Figures
from pullstatus.clock import wall_ms
from pullstatus.errors import InvalidSetting
from pullstatus.mailbox.done import Task
from pullstatus.records.hours import HOUR_MS
from pullstatus.store.gate import encoded
from pullstatus.store.transfer import Migration, Role, Stage
from pullstatus.version import VERSION
from pullstatus.wire.about import ABOUT_PATH
from tests.harness import ROOT, Program, statuses

DAY_MS = 86_400_000
NOW_MS = 1_790_000_000_000
ALERTS = ROOT / "dist" / "alerts.yml"


class Setup:
    """A server, and the settings that the doctor is to find: what `break_` changes of them."""

    def __init__(self, running: Program, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.running, self.folder, self.patch = running, folder, patch
        self.settings: dict[str, object] = {
            "store": running.store,
            "host": running.host,
            "port": running.port,
        }
        self.flags = ["--alerts", str(ALERTS)]
        patch.setattr(clock, "synchronized", lambda: True)
        patch.setattr(disk, "sync_s", lambda _folder: 0.002)
        patch.setattr(os, "geteuid", lambda: 1000)

    @property
    def address(self) -> str:
        return f"{self.running.host}:{self.running.port}"

    def run(self) -> Result:
        file = self.folder / "pullstatus.toml"
        said = [f"{name} = {json.dumps(value)}\n" for name, value in self.settings.items()]
        file.write_text("".join(said))
        file.chmod(0o600)
        return CliRunner().invoke(main, ["doctor", "--config", str(file), *self.flags])

    def found(self) -> list[dict[str, str]]:
        """What is not ok."""
        done = self.run()
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        findings: list[dict[str, str]] = json.loads(done.stdout)["findings"]
        bad = [finding for finding in findings if finding["level"] != "ok"]
        assert all(finding["fix"] for finding in bad)
        assert done.exit_code == EXIT[worst(msgspec.convert(findings, list[Finding]))]
        return bad

    def copy_of_the_store(self) -> Path:
        """A store without its master key."""
        file = self.folder / "copy.db"
        source = Path(self.running.store.removeprefix("sqlite:///"))
        with contextlib.closing(sqlite3.connect(source)) as live:
            live.execute("VACUUM INTO ?", [str(file)])
        file.chmod(0o600)
        self.settings["store"] = f"sqlite:///{file}"
        return file

    def certify(self, not_after: datetime | None = None) -> trustme.CA:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", not_after=not_after)
        for name, parts in (
            ("tls-certificate", issued.cert_chain_pems),
            ("tls-key", [issued.private_key_pem]),
        ):
            file = self.folder / f"{name}.pem"
            file.write_bytes(b"".join(part.bytes() for part in parts))
            file.chmod(0o600)
            self.flags += [f"--{name}", str(file)]
        return authority

    def trusted(self, authority: trustme.CA) -> None:
        file = self.folder / "root.pem"
        authority.cert_pem.write_to_path(str(file))
        self.patch.setenv("SSL_CERT_FILE", str(file))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Program(tmp_path_factory.mktemp("doctor")) as running:
        app = running.create_app()
        running.feed(app, statuses(3))
        assert len(running.pull(app).data) == 3
        running.cli("audit", "--note")
        running.cli("backup", str(running.folder / "backup.db"))
        yield running


@pytest.fixture
def setup(running: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("PULLSTATUS_"):
            monkeypatch.delenv(name)
    return Setup(running, tmp_path, monkeypatch)


def test_of_a_sound_setup_all_is_well(setup: Setup) -> None:
    done = setup.run()
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["worst"] == "ok"
    assert {finding["check"] for finding in said["findings"]} == {
        *("program", "user", "settings", "alarms", "server", "files", "proxies", "place"),
        *("store", "master key", "room", "sync", "clock", "waiting", "backup", "audit"),
    }
    assert done.stderr == ""


def test_nothing_is_changed(setup: Setup) -> None:
    """Of a store that nobody serves: else its server might."""
    file = setup.copy_of_the_store()

    def lying() -> dict[str, bytes]:
        beside = sorted(setup.folder.glob(f"{file.name}*"))
        return {each.name: each.read_bytes() for each in beside}

    before = lying()
    setup.run()
    assert lying() == before


def test_the_exit_status_is_for_monitors() -> None:
    assert EXIT == {Level.OK: 0, Level.WARNING: 3, Level.FAULT: 1}


# --- broken set-ups -------------------------------------------------------------------------------

Break = Callable[[Setup], None]
BROKEN: dict[str, tuple[Break, str, str, str]] = {}
"""By name: what breaks it, and check, level and some words of the one finding that tells it."""


def broken(check: str, level: str, words: str) -> Callable[[Break], Break]:
    def noted(break_: Break) -> Break:
        BROKEN[break_.__name__] = (break_, check, level, words)
        return break_

    return noted


@broken("settings", "fault", "which is no setting of serve")
def unknown_setting(setup: Setup) -> None:
    setup.settings["prot"] = 8080


@broken("settings", "fault", "is not a loopback address")
def exposed_without_tls(setup: Setup) -> None:
    setup.settings["host"] = "0.0.0.0"


@broken("settings", "fault", "is no TOML")
def settings_that_cannot_be_read(setup: Setup) -> None:
    setup.settings["port = = "] = 1


@broken("server", "fault", "no server answers")
def no_server(setup: Setup) -> None:
    setup.settings["port"] = 1


@broken("version", "warning", "the server is")
def server_of_another_version(setup: Setup) -> None:
    setup.patch.setattr(server, "VERSION", "9.9.9")


@broken("server", "fault", "it takes no work: stopping")
def server_that_stops(setup: Setup) -> None:
    asked = server.ask
    setup.patch.setattr(
        server,
        "ask",
        lambda *where, **how: msgspec.structs.replace(asked(*where, **how), not_ready="stopping"),
    )


@broken("store", "fault", "there is no store at")
def no_store(setup: Setup) -> None:
    setup.settings["store"] = f"sqlite:///{setup.folder}/nosuch.db"


@broken("store", "fault", "damaged or no database")
def store_that_is_none(setup: Setup) -> None:
    file = setup.folder / "other.db"
    file.write_bytes(b"no database " * 1000)
    file.chmod(0o600)
    setup.settings["store"] = f"sqlite:///{file}"


def say_of_itself(file: Path, stage: Stage) -> None:
    """As a migration leaves it."""
    said = encoded(Migration(bytes(16), Role.SOURCE, stage, "sqlite:////new/mailboxes.db"))
    with contextlib.closing(sqlite3.connect(file)) as live, live:
        live.execute("INSERT INTO transfer VALUES (1, ?)", [said])


@broken("store", "fault", "was moved to sqlite:////new/mailboxes.db: use that one instead")
def store_that_was_moved_away(setup: Setup) -> None:
    say_of_itself(setup.copy_of_the_store(), Stage.MOVED)


@broken("store", "fault", "run `pullstatus migrate` to its end")
def store_that_is_sealed(setup: Setup) -> None:
    say_of_itself(setup.copy_of_the_store(), Stage.SEALED)


@broken("master key", "fault", "master key")
def no_master_key(setup: Setup) -> None:
    setup.copy_of_the_store()


@pytest.mark.parametrize("flag", ["--master-key-file", "--master-key-command"])
@pytest.mark.parametrize("settings", ["are right", "are wrong"])
def test_a_master_key_that_is_kept_elsewhere_can_be_named(
    setup: Setup, flag: str, settings: str
) -> None:
    """As the finding says that is made where it is not."""
    setup.copy_of_the_store()
    keys = setup.folder / "keys"
    shutil.copy(f"{setup.running.store.removeprefix('sqlite:///')}-master-key", keys)
    if settings == "are wrong":
        setup.settings["worst"] = -1
        setup.patch.setenv("PULLSTATUS_STORE", str(setup.settings["store"]))
    before = {each["check"] for each in setup.found()}
    assert "master key" in before
    setup.flags += [flag, f"cat {keys}" if flag.endswith("command") else str(keys)]
    assert {each["check"] for each in setup.found()} == before - {"master key"}


@broken("master key", "fault", "keys of 1 application cannot be opened")
def master_key_in_use_is_another(setup: Setup) -> None:
    setup.copy_of_the_store()
    words = ("--store", str(setup.settings["store"]))
    done = CliRunner().invoke(main, ["keys", "rewrap", "--lost", *words])
    assert done.exit_code == 0, done.output


@broken("place", "fault", "can be written by everybody")
def store_that_everybody_may_write(setup: Setup) -> None:
    file = setup.copy_of_the_store()
    file.chmod(0o666)
    source = Path(setup.running.store.removeprefix("sqlite:///"))
    shutil.copy(f"{source}-master-key", f"{file}-master-key")


@broken("room", "fault", "no more records are accepted")
def full_disk(setup: Setup) -> None:
    setup.patch.setattr(disk, "free_bytes", lambda _folder: 1 << 20)


@broken("room", "fault", "days, by")
def disk_that_fills(setup: Setup) -> None:
    setup.patch.setattr(disk, "free_bytes", lambda _folder: 1 << 30)
    setup.patch.setattr(disk, "growth", lambda *_known: 1 << 29)


@broken("sync", "warning", "a sync takes 300 ms")
def slow_disk(setup: Setup) -> None:
    setup.patch.setattr(disk, "sync_s", lambda _folder: 0.3)


@broken("clock", "fault", "behind what the store has noted")
def clock_that_is_behind(setup: Setup) -> None:
    setup.patch.setattr("pullstatus.cli.doctor.command.wall_ms", lambda: wall_ms() - HOUR_MS)


@broken("clock", "warning", "nobody sets it")
def clock_that_nobody_sets(setup: Setup) -> None:
    setup.patch.setattr(clock, "synchronized", lambda: False)


@broken("user", "warning", "runs as root")
def root(setup: Setup) -> None:
    setup.patch.setattr(os, "geteuid", lambda: 0)


@broken("alarms", "warning", "not there: PullstatusDown")
def alarm_that_is_missing(setup: Setup) -> None:
    rules = setup.folder / "alerts.yml"
    rules.write_text(ALERTS.read_text().replace("alert: PullstatusDown", "alert: ServerDown"))
    setup.flags = ["--alerts", str(rules)]


@broken("tls", "fault", "the certificate ended")
def certificate_that_has_ended(setup: Setup) -> None:
    setup.trusted(setup.certify(not_after=datetime.now(UTC) - timedelta(days=1)))


@broken("tls", "warning", "the certificate ends")
def certificate_that_ends_soon(setup: Setup) -> None:
    setup.trusted(setup.certify(not_after=datetime.now(UTC) + timedelta(days=3)))


@broken("tls", "warning", "the certificate ends")
def certificate_with_a_text_about_it(setup: Setup) -> None:
    """As `openssl x509 -text` writes one, in front of it and behind."""
    authority = setup.certify(not_after=datetime.now(UTC) + timedelta(days=3))
    file = setup.folder / "tls-certificate.pem"
    about = "Subject: O = Müller & Söhne\n".encode("latin-1")
    file.write_bytes(about + file.read_bytes() + about)
    setup.trusted(authority)


@broken("tls", "warning", "but callers refuse it")
def certificate_that_nobody_trusts(setup: Setup) -> None:
    setup.certify(not_after=datetime.now(UTC) + timedelta(days=90))


@broken("tls", "fault", "cannot be used")
def key_of_another_certificate(setup: Setup) -> None:
    setup.certify()
    other = trustme.CA().issue_cert("localhost").private_key_pem
    other.write_to_path(str(setup.folder / "tls-key.pem"))


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(setup: Setup, name: str) -> None:
    """And nothing else, but for what follows from it."""
    break_, check, level, words = BROKEN[name]
    break_(setup)
    found = setup.found()
    [named] = [each for each in found if (each["check"], each["level"]) == (check, level)]
    assert words in named["found"]
    others = {each["check"] for each in found} - {check}
    # A file with TLS is one that this server does not serve with.
    follows = {"tls": {"server"}, "store": {"place"}, "place": set(), "master key": set()}
    copied = {"backup", "audit"} if "copy.db" in str(setup.settings["store"]) else set()
    assert others <= follows.get(check, set()) | copied, found


class Quiet(http.server.BaseHTTPRequestHandler):
    def say(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_said: object) -> None:
        pass


@contextlib.contextmanager
def listening(answers: type[Quiet]) -> Iterator[int]:
    """What answers so at a port, until it is left."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


class Odd(Quiet):
    """Answers whatever it is asked with the same bytes."""

    content = b""

    def do_GET(self) -> None:
        self.say(self.content)


@pytest.mark.parametrize(
    "content", [b"<html>", b'{"name":"\xe9"}', b"[" * 100_000], ids=["page", "latin-1", "deep"]
)
def test_another_program_at_the_port_is_told(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(Odd, "content", content)
    with listening(Odd) as port:
        setup.settings["port"] = port
        [named] = setup.found()
        with pytest.raises(InvalidSetting, match="is no Prometheus"):
            of_prometheus(f"http://127.0.0.1:{port}")
    assert (named["check"], named["level"]) == ("port", "fault")
    assert "is no pullstatus" in named["found"]


class Public(Quiet):
    """What customers reach of a server: neither its health nor its figures."""

    def refuse(self) -> None:
        self.send_error(404)

    def do_GET(self) -> None:
        if self.path != ABOUT_PATH:
            self.refuse()
            return
        self.say(json.dumps({"name": "pullstatus", "version": VERSION}).encode())


class Page(Public):
    """A page of the proxy's own in place of what it keeps from strangers."""

    def refuse(self) -> None:
        self.say(b"<html>welcome</html>")


class Maintenance(Public):
    def refuse(self) -> None:
        self.send_error(503)


@pytest.mark.parametrize("answers", [Page, Maintenance])
def test_what_a_proxy_answers_for_a_server_says_nothing_of_it(
    setup: Setup, answers: type[Public]
) -> None:
    with listening(answers) as port:
        setup.settings["admin"] = "127.0.0.1:1"
        setup.flags += ["--url", f"http://127.0.0.1:{port}"]
        findings = json.loads(setup.run().stdout)["findings"]
    [found] = [each for each in findings if each["check"] == "server"]
    assert "whether it takes work is not known" in found["found"]


@pytest.mark.parametrize("stands", ["ready", "takes no records", "away"])
def test_health_that_customers_are_not_told_is_asked_where_the_settings_have_it(
    setup: Setup, stands: str
) -> None:
    with listening(Public) as port:
        where = f"http://127.0.0.1:{port}"
        setup.flags += ["--url", where]
        if stands == "away":
            setup.settings["admin"] = "127.0.0.1:1"
        if stands == "takes no records":
            setup.patch.setattr(server, "_not_ready", lambda *_asked: "its disk is full")
            setup.patch.setattr(server, "ask", lambda calls, *_, **__: told_elsewhere(calls))
        findings = json.loads(setup.run().stdout)["findings"]
    [found] = [each for each in findings if each["check"] == "server"]
    words = {
        "ready": f"ready at {where}, version {VERSION}",
        "takes no records": "it takes no work: its disk is full",
        "away": f"answers at {where}, version {VERSION}; whether it takes work is not known",
    }
    assert found["found"] == words[stands]
    assert any(each["check"] == "files" for each in findings) is (stands != "away")


def told_elsewhere(calls: str) -> server.Answers:
    return server.Answers(calls, "", "pullstatus", VERSION, None)


def test_a_proxy_on_the_way_is_told_without_its_password(setup: Setup) -> None:
    setup.flags += ["--url", "http://sms.example.com"]
    setup.patch.setenv("http_proxy", "http://me:hunter2@127.0.0.1:1")
    found = {each["check"]: each for each in setup.found()}
    assert set(found) == {"server", "proxies"}
    assert "through the proxy of http_proxy" in found["proxies"]["found"]
    assert found["proxies"]["fix"] == "export NO_PROXY=sms.example.com"
    assert "hunter2" not in str(found)


class Guarded(Quiet):
    """A Prometheus that asks for a name and a password."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != "Basic bWU6aHVudGVyMg==":
            self.send_error(401)
            return
        self.say(b'{"data":{"groups":[],"result":[]}}')


def test_a_prometheus_behind_a_password_is_asked_with_it(setup: Setup) -> None:
    with listening(Guarded) as port:
        assert of_prometheus(f"http://me:hunter2@127.0.0.1:{port}").names == set()
        setup.flags = ["--prometheus", f"http://me:hunter3@127.0.0.1:{port}"]
        [named] = setup.found()
    assert named["found"] == f"no Prometheus answers at http://127.0.0.1:{port}"


def test_what_is_found_shows_no_password_of_an_address(setup: Setup) -> None:
    for url in ("http://me:hunter2@127.0.0.1:1", f"http://me:hunter2@{setup.address}"):
        setup.flags = ["--url", url]
        done = setup.run()
        assert "127.0.0.1" in done.stdout
        assert "hunter2" not in done.output


# --- what judges, by itself -----------------------------------------------------------------------


def test_the_alarms_are_those_of_the_file() -> None:
    assert set(alarms.of_file(ALERTS).names) == alarms.NAMES
    assert [each.level for each in alarms.alarms(alarms.of_file(ALERTS))] == [Level.OK]
    [none] = alarms.alarms(alarms.Known(["Other"]))
    assert none.level is Level.FAULT


def test_an_alarm_that_rings_is_as_bad_as_it_is_severe() -> None:
    page, ticket = alarms.alarms(
        alarms.Known(alarms.NAMES, {"PullstatusDown": "page", "PullstatusParked": "ticket"})
    )
    assert (page.level, ticket.level) == (Level.FAULT, Level.WARNING)
    assert "`PullstatusDown`" in (ROOT / page.fix).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("age_ms", "level"),
    [
        (0, Level.OK),
        (-1000, Level.OK),
        (2 * DAY_MS, Level.WARNING),
        (-DAY_MS, Level.WARNING),
        (None, Level.WARNING),
    ],
)
def test_a_backup_that_is_late_or_was_never_made_is_told(age_ms: int | None, level: Level) -> None:
    done = {} if age_ms is None else {Task.BACKUP: NOW_MS - age_ms}
    backup, audit = care.care(done, NOW_MS, copied=True)
    assert (backup.level, audit.level) == (level, Level.WARNING)
    assert care.care({}, NOW_MS, copied=False)[0].level is Level.OK


@pytest.mark.parametrize(
    ("allowed", "used", "level"),
    [(20_000, 30, Level.OK), (1024, 30, Level.WARNING), (20_000, 19_000, Level.FAULT)],
)
def test_files_that_run_out_are_told(allowed: float, used: float, level: Level) -> None:
    assert network.files(allowed, used).level is level


def test_what_lies_in_the_store_and_needs_somebody_is_told() -> None:
    sound = Look(1, 0, 9, 0, 0, 0, NOW_MS, None, {})
    assert [each.level for each in store.standing(sound)] == [Level.OK]
    worse = msgspec.structs.replace(sound, parked=2, quarantined=1)
    assert [(each.check, each.level) for each in store.standing(worse)[1:]] == [
        ("damage", Level.FAULT),
        ("parked", Level.WARNING),
    ]
    traces = msgspec.structs.replace(sound, traces=True)
    assert [each.check for each in store.standing(traces)[1:]] == ["traces"]
    leaving = msgspec.structs.replace(sound, leaving=(7, 8))
    [_, told] = store.standing(leaving)
    assert (told.level, told.fix) == (Level.WARNING, "pullstatus app delete 7")
    assert told.found.endswith("7, 8")
    assert store.waiting(NOW_MS - 3_600_000, NOW_MS).level is Level.OK
    assert store.waiting(NOW_MS - 7 * 3_600_000, NOW_MS).level is Level.WARNING


def test_growth_is_what_came_while_the_server_was_up() -> None:
    assert disk.growth(1000, 43_200, 5_000_000, 5_000) == 2_000_000  # a day's 2,000 of 1,000 bytes
    assert disk.growth(1000, 60, 5_000_000, 5_000) is None
    assert disk.room(1 << 40, 0.0).level is Level.OK
    assert disk.sync(1e-7).level is Level.WARNING
    assert disk.sync(2.0).level is Level.FAULT


def test_what_a_server_tells_of_its_store_is_judged() -> None:
    said = "pullstatus_accepting {}\npullstatus_cluster_streams_down {}\n"
    assert server.figures(Figures(said.format(1, 0))) == []
    assert server.figures(Figures("pullstatus_cluster_streams_down 0\n")) == []
    assert [each.check for each in server.figures(Figures(said.format(0, 2)))] == [
        "room",
        "cluster",
    ]


def test_a_certificate_that_was_renewed_and_is_not_served_is_told() -> None:
    file = tls.Chain(b"new", 0, NOW_MS)
    assert tls.renewed(file, file) == []
    [told] = tls.renewed(file, msgspec.structs.replace(file, leaf=b"old"))
    assert told.fix == "systemctl reload pullstatus"


def test_a_screen_has_each_fix_below_what_it_is_for() -> None:
    picture = Console(width=80, record=True, file=io.StringIO())
    picture.print(command.table([program.user(0), program.user(1000)]))
    assert picture.export_text() == (
        "warning  user  runs as root; files that a command makes as root cannot be       \n"
        "               written by the server                                            \n"
        "               -> sudo -u pullstatus pullstatus doctor                          \n"
        "ok       user  runs as user 1000                                                \n"
    )
