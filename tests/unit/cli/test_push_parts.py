"""A batch that is not taken whole is sent in parts, each stored once, whoever is killed when."""

from __future__ import annotations

import json
from itertools import combinations_with_replacement, count
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from pullstatus.cli.push import command
from pullstatus.cli.push.progress import Done
from pullstatus.client.slots import Slots

COUNT = 8
BAD = (2, 5)  # for the service
UNREADABLE = 4


class Service:
    """Behind a proxy that takes so many records at once; whoever asks may be killed meanwhile."""

    def __init__(self) -> None:
        self.records_max = COUNT
        self.names = True
        self.kill_at: tuple[int, bool] | None = None
        self.killed = False
        self.requests = 0
        self.stored: list[int] = []
        self._keys: dict[str, bytes] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        at, after = self.kill_at or (0, False)
        dies = at == self.requests
        if dies and not after:
            self._kill()
        answer = self._answer(request)
        if dies:
            self._kill()
        return answer

    def _kill(self) -> None:
        """Nothing is written from then on; as an interrupt, so that what was reported is read."""
        self.killed = True
        raise KeyboardInterrupt

    def _answer(self, request: httpx.Request) -> httpx.Response:
        numbers = [json.loads(line)["n"] for line in request.content.splitlines()]
        if len(numbers) > self.records_max:
            return httpx.Response(413, content=b"<html>")
        bad = [place for place, number in enumerate(numbers) if number in BAD]
        if bad:
            problem = {"title": "Invalid record", "status": 400, "detail": "is bad"}
            return httpx.Response(400, json=problem | ({"index": bad[0]} if self.names else {}))
        key = request.headers["Idempotency-Key"]
        if key not in self._keys:
            self.stored += numbers
        assert self._keys.setdefault(key, request.content) == request.content
        return httpx.Response(200, json={"accepted": len(numbers)})


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()

    def client(_url: str, _timeout_s: float) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(service))

    write = Slots.write

    def write_if_alive(slots: Slots[Done], value: Done) -> None:
        if not service.killed:
            write(slots, value)

    monkeypatch.setattr(command, "open_http", client)
    monkeypatch.setattr(Slots, "write", write_if_alive)
    monkeypatch.setattr("time.sleep", lambda _s: pytest.fail("it tries again"))
    monkeypatch.setattr("os.fsync", lambda _file: None)
    monkeypatch.setenv("PULLSTATUS_TOKEN", "pst_1")
    return service


def push(file: Path) -> Result:
    line = ["--type", "reply", "--url", "http://a.test", "--sdkappid", "7", str(file)]
    return CliRunner().invoke(command.push, line)


def refused(result: Result) -> list[int]:
    told = map(json.loads, result.stdout.splitlines())
    return [report["line"] for report in told if "reason" in report]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("names", [False, True])
@pytest.mark.parametrize(("before_max", "then_max"), [*combinations_with_replacement([1, 3, 8], 2)])
def test_each_record_is_stored_once(
    service: Service, tmp_path: Path, before_max: int, then_max: int, *, names: bool, after: bool
) -> None:
    """Killed before or after any request, and gone on with when a proxy takes more."""
    steps = count(1)
    while True:
        step = next(steps)
        service.__init__()  # type: ignore[misc]
        service.names = names
        file = tmp_path / f"{step}.ndjson"
        lines = [b'{"n":%d}\n' % number for number in range(COUNT)]
        lines[UNREADABLE] = b'{"n":"\xff"}\n'
        file.write_bytes(b"".join(lines))
        service.kill_at, service.records_max = (step, after), before_max
        first = push(file)
        if not service.killed:
            break
        service.kill_at, service.records_max, service.killed = None, then_max, False
        second = push(file)
        assert second.exit_code == (command.SOME_REFUSED if refused(second) else 0), second.output
        assert service.stored == [0, 1, 3, 6, 7]
        assert {*refused(first), *refused(second)} == {3, 5, 6}
    assert step > 3
    assert first.exit_code == command.SOME_REFUSED
    assert refused(first) == [3, 5, 6]


def test_nothing_is_taken_for_refused_by_somebody_elses_word(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    html = httpx.Response(400, content=b"<html>plain HTTP to an HTTPS port</html>")
    file = tmp_path / "in.ndjson"
    file.write_text('{"n":0}\n{"n":1}\n')
    with monkeypatch.context() as patched:
        patched.setattr(Service, "_answer", lambda _service, _request: html)
        result = push(file)
    assert result.exit_code == command.UNREACHED
    assert "no answer of the service: check the address" in result.stderr
    assert refused(result) == []
    assert service.requests == 1
    assert push(file).exit_code == 0
    assert service.stored == [0, 1]
