"""What others wrote, given to commands: bytes that are no text, addresses that are none, JSON of
another form. Each ends in a sentence."""

from __future__ import annotations

import http.server
import json
import shlex
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pullstatus.cli import main
from pullstatus.cli.doctor import alarms, server
from pullstatus.errors import InvalidSetting
from tests.endless import ENDLESS, TIMEOUT_S, Script, Service, services
from tests.logs import own_log

SETTINGS = {"PULLSTATUS_APPKEY": "k", "PULLSTATUS_TOKEN": "t"}
NO_TEXT = [b"\xff", b"\xff\n", b"\x80" * 200, b'{"a":"\xff"}', b"\xed\xa0\x80", b"\xc3"]


def run(*arguments: str, given: bytes = b"") -> Result:
    with own_log():  # that of a server, which some of these begin to be
        done = CliRunner(env=SETTINGS).invoke(main, arguments, input=given)
    assert done.exception is None or isinstance(done.exception, SystemExit), arguments
    return done


# --- bytes that are no text -----------------------------------------------------------------------

BODIES = [
    *NO_TEXT,
    b'{"sig":"\xff","time":1}',
    b'{"sig":"a","time":"\xff"}',
    b'{"sig":"a","time":1,"tel":{"mobile":"\xff"}}',
    b'{"sig":"a","time":1,"mobile":"\xff"}',
    b'{"\xff":1,"sig":"a","time":1}',
    b'{"sig":"\\ud800","time":1}',
    b"[" * 100_000,
    b"",
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_body_of_a_signed_call_may_be_anything(body: bytes) -> None:
    done = run("verify", "--random", "1", "--body", "-", given=body)
    assert done.exit_code in (1, 2)
    assert done.exit_code == 1 or "--body is no JSON object with sig and time" in done.stderr


def test_body_in_another_language_is_read_as_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the locale says of text."""
    monkeypatch.setenv("LC_ALL", "C")
    body = json.dumps({"sig": "a", "time": 1, "ext": "\u4f60"}, ensure_ascii=False)
    assert run("verify", "--random", "1", "--body", "-", given=body.encode()).exit_code == 1


def test_nothing_is_signed_with_what_is_no_appkey(tmp_path: Path) -> None:
    """The signature would be refused, and nobody would learn why."""
    file = tmp_path / "key"
    for given in (" akey", "a\x01key", "a\ufeffkey"):
        file.write_text(given, encoding="utf-8")
        done = run("sign", "--appkey-file", str(file))
        assert done.exit_code == 2, given
        assert "appkey has" in done.stderr
    done = CliRunner(env={"PULLSTATUS_APPKEY": ""}).invoke(main, ["sign"])
    assert (done.exit_code, done.stdout) == (2, "")


@pytest.mark.parametrize("given", NO_TEXT, ids=repr)
def test_what_is_no_text_is_said_wherever_it_is_read(given: bytes, tmp_path: Path) -> None:
    file, store = tmp_path / "in", f"sqlite:///{tmp_path}/none.db"
    file.write_bytes(given)
    name, there = str(file), ("--sdkappid", "1", "--type", "reply", "--url", "http://127.0.0.1:1")
    for arguments in (
        ("erase", "--number", "-", "--reason", "x", "--store", store),
        ("app", "import", "-", "--store", store),
        ("source", "check", "yunpian", "-"),
        ("source", "check", name, name),
        ("sign", "--appkey-file", "-"),
        ("push", "-", *there),
        ("doctor", "--alerts", name, "--store", store),
        ("doctor", "--config", name),
        ("doctor", "--tls-certificate", name, "--tls-key", name, "--store", store),
        ("serve", "--config", name),
        ("emulate", "--scenario", name),
    ):
        assert run(*arguments, given=given).exit_code, arguments


# --- texts that are empty -------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " "])
@pytest.mark.parametrize(
    "arguments",
    [
        *(
            ("route", "add", "r", "--park", "--source", "twilio", condition)
            for condition in ("--token", "--to", "--to-prefix", "--from-prefix", "--id-prefix")
        ),
        ("route", "add", "r", "--park", "--to", "1", "--source"),
        ("erase", "--sdkappid", "1", "--reason"),
        ("redeliver", "--sid", "1", "--reason"),
        ("readers", "release", "r", "--sdkappid", "1", "--type", "reply", "--reason"),
        ("store", "new-epoch", "--reason"),
    ],
)
def test_what_a_variable_that_is_not_set_leaves_is_not_taken_for_nothing(
    arguments: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    """Of a rule with one condition less more would be matched."""
    done = run(*arguments, text, "--store", f"sqlite:///{tmp_path}/none.db")
    assert done.exit_code == 2
    assert f"'{arguments[-1]}': is empty" in done.stderr


# --- addresses that are none ----------------------------------------------------------------------

NO_ADDRESS = [
    *("http://[x", "https://[", "http://\u2100.com", "http://x:99999999", "http://x:port"),
    *("http://", "http://x y", "http://x/?a=b", "http://x/#a", "ftp://x"),
]
NO_NAME = ["http://xn--a", "http://\u2488", "http://a..b", f"http://{'a' * 64}.example"]


@pytest.mark.parametrize("address", NO_ADDRESS)
def test_address_that_is_none_is_said(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    store = ("--store", f"sqlite:///{tmp_path}/none.db")
    for arguments in (
        ("serve", "--public-url", address, "--port", "0", *store),
        ("doctor", "--url", address, *store),
        ("status", "--url", address),
        ("pull", "--url", address, "--sdkappid", "1", "--type", "reply"),
        ("push", __file__, "--url", address, "--sdkappid", "1", "--type", "reply"),
        ("doctor", "--prometheus", address, *store),
        ("sign", "--curl", "--url", address, "--sdkappid", "1", "--type", "reply"),
    ):
        assert run(*arguments).exit_code == 2, arguments
    run("verify", "--address", address, "--body", '{"sig":"a","time":1}')


def test_address_in_a_command_for_a_shell_stays_one_word() -> None:
    address = "http://127.0.0.1/o'brien;$(date)`id`"
    done = run("sign", "--curl", "--url", address, "--sdkappid", "1", "--type", "reply")
    program, _, _, called = shlex.split(done.stdout)
    assert program == "curl"
    assert called.startswith(f"{address}/v5/")


@pytest.mark.parametrize("address", NO_NAME)
def test_host_that_can_never_be_looked_up_is_no_service(address: str, tmp_path: Path) -> None:
    """It is said before anything is sent or kept, and not as if a page might be lost."""
    target = ("--to", str(tmp_path / "out.ndjson"))
    rest = ("--url", address, "--sdkappid", "1", "--type", "reply")
    for arguments in (
        ("pull", *target, *rest),
        ("push", __file__, *rest),
        ("sign", "--curl", *rest),
        ("bench", *rest[:4], "--consume"),
        ("doctor", "--url", address),
        ("status", "--url", address),
    ):
        assert run(*arguments).exit_code == 2, arguments
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["http://[x", "http://\u2100.com"])
def test_address_of_a_signed_call_may_be_none(address: str) -> None:
    done = run("verify", "--address", address, "--body", '{"sig":"a","time":1}')
    assert done.exit_code == 2
    assert "--address is no address" in done.stderr


# --- JSON of another form, and figures that are none ----------------------------------------------


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """Starts what answers all that it is asked with the same bytes; its address."""
    made: list[http.server.HTTPServer] = []

    def start(content: bytes) -> str:
        class Same(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_said: object) -> None:
                pass

        other = http.server.HTTPServer(("127.0.0.1", 0), Same)
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        made.append(other)
        return f"http://127.0.0.1:{other.server_port}"

    yield start
    for other in made:
        other.shutdown()
        other.server_close()


def rules(*rule: object, result: object = ()) -> bytes:
    return json.dumps({"data": {"groups": [{"rules": rule}], "result": result}}).encode()


FIRING = {"name": "PullstatusDown", "state": "firing", "labels": {"severity": "page"}}


NAMES: list[object] = [{}, [], None, 1, True]
LABELS: list[object] = [[], "a", {"severity": {}}]
RULES: list[object] = [{}, [], None, 1, "PullstatusDown"]
RESULTS: list[object] = [{}, [{}], [1], "a", [{"value": [1]}], [{"value": {}}]]
RESULTS += [[{"value": value}] for value in ([1, {}], [1, "x"], [{}, "1"])]
OTHERS: list[object] = [[], 1, None, {}, {"data": []}, {"data": 1}]
GROUPS: list[object] = [{}, [[]], [{}], None]
OTHERS += [{"data": {"groups": groups, "result": []}} for groups in GROUPS]
NO_PROMETHEUS = [
    *(rules(FIRING | {"name": name}) for name in NAMES),
    *(rules(FIRING | {"labels": labels}) for labels in LABELS),
    *(rules(rule) for rule in RULES),
    *(rules(FIRING, result=result) for result in RESULTS),
    *(json.dumps(other).encode() for other in OTHERS),
    b"[" * 100_000,
    b'{"data":"\xff"}',
    b"",
]


@pytest.mark.parametrize("content", NO_PROMETHEUS, ids=range(len(NO_PROMETHEUS)))
def test_no_prometheus_is_said(answering: Callable[[bytes], str], content: bytes) -> None:
    with pytest.raises(InvalidSetting, match="is no Prometheus"):
        alarms.of_prometheus(answering(content))


def test_a_prometheus_is_read(answering: Callable[[bytes], str]) -> None:
    other = {"name": "Other", "state": "firing", "query": "up", "labels": {}}
    quiet = {"name": "PullstatusParked", "state": "inactive"}
    grown = [{"metric": {}, "value": [1435781451.781, "7.5"]}]
    known = alarms.of_prometheus(answering(rules(FIRING, other, quiet, result=grown)) + "/")
    assert set(known.names) == {"PullstatusDown", "Other", "PullstatusParked"}
    assert known.ringing == {"PullstatusDown": "page"}
    assert known.day_bytes == 7.5
    assert alarms.of_prometheus(answering(rules(FIRING))).day_bytes is None


@pytest.mark.parametrize(
    "figure",
    [
        "pullstatus_waiting NaN",
        "pullstatus_workers +Inf",
        "pullstatus_connections -Inf",
        'pullstatus_application_oldest_waiting_seconds{sdkappid="x",kind="reply"} 1',
        "pullstatus_application_oldest_waiting_seconds 1",
        "pullstatus_application_waiting 1",
        "pullstatus_pulls_total 1",
        "pullstatus_oldest_waiting_seconds NaN\npullstatus_store_bytes NaN",
        'a{x="y", ="z"} 1',
    ],
)
def test_figures_of_another_program_are_said_to_be(
    answering: Callable[[bytes], str], figure: str
) -> None:
    address = answering(f'pullstatus_build_info{{version="1"}} 1\n{figure}\n'.encode())
    done = run("status", "--url", address, "--every", "0.1", "--json")
    assert done.exit_code == 1
    assert "is no pullstatus" in done.stderr


def test_figures_without_a_version_have_none(answering: Callable[[bytes], str]) -> None:
    done = run("status", "--url", answering(b"pullstatus_build_info 1\n"), "--every", "0.1")
    assert json.loads(done.stdout)["version"] == ""


@pytest.mark.parametrize("said", ["\x1b[2Jno\n\u202eforged", "x" * 100_000, {"a": "\n"}, ["\n"]])
def test_what_a_server_says_of_itself_is_on_one_line(
    answering: Callable[[bytes], str], said: object
) -> None:
    told = json.dumps(dict.fromkeys(("name", "version", "reason"), said)).encode()
    address = answering(told)
    found = server.ask(address, address, own=True)
    for text in (found.name, found.version):
        assert text
        assert text.isprintable()
        assert len(text) <= 1000


@pytest.mark.parametrize("value", [b"{", b"[]", b"1", b'{"name":"\xff"}', b"[" * 100_000])
def test_who_says_nothing_of_itself_has_no_name(
    answering: Callable[[bytes], str], value: bytes
) -> None:
    address = answering(value)
    found = server.ask(address, address, own=True)
    assert (found.name, found.version, found.not_ready, found.trouble) == ("", "", None, "")


# --- what does not end ----------------------------------------------------------------------------


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Service]]:
    with services() as start:
        yield start


@pytest.mark.parametrize("name", ["continue", "body", "headers", "nothing", "bomb", "twice"])
@pytest.mark.parametrize("own", [True, False])
def test_no_answer_holds_a_command(
    serve: Callable[[Script], Service], monkeypatch: pytest.MonkeyPatch, name: str, own: bool
) -> None:
    monkeypatch.setattr("pullstatus.cli.scrape.ANSWER_S", TIMEOUT_S)
    monkeypatch.setattr(alarms, "ANSWER_S", TIMEOUT_S)
    service = serve(ENDLESS[name])
    assert server.ask(service.url, service.url, own=own).trouble in ("ReadTimeout", "ReadError")
    with pytest.raises(InvalidSetting, match="no Prometheus answers"):
        alarms.of_prometheus(service.url)
    if name not in ("bomb", "twice"):
        assert not service.came_to_its_end
