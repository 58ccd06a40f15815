"""Kannel from Debian beside a server that is killed: nothing is lost, nothing comes twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import REPLY, STATUS, Program
from tests.kannel import Between, Centre, Kannel
from tools.postgresql import free_port

KILLS = 3
EACH = 6


@pytest.mark.needs("/usr/sbin/bearerbox")
def test_receipts_and_replies_of_kannel_outlast_kills_of_the_server(
    tmp_path: Path, each_store: str | None, environment: dict[str, str]
) -> None:
    flags = "--port", str(free_port())
    program = Program(tmp_path, *flags, store=each_store, environment=environment)
    with program:
        app = program.create_app()
        secret = program.create_token("kannel", app=app)
        between = Between(program.port)
        callback = f"http://127.0.0.1:{between.server_port}/in/{secret}/kannel"
        sent: dict[str, str] = {}
        written: list[tuple[str, str]] = []
        with between, Centre() as centre, Kannel(tmp_path, centre, callback) as kannel:
            for turn in range(KILLS + 1):
                for each in range(EACH):
                    number = f"1380000{turn}{each:02d}{turn + each}"
                    sid = f"8:{number}"
                    sent[sid] = "FAIL" if number.endswith("9") else "SUCCESS"
                    kannel.send(f"86{number}", sid)
                    text = f"yes {turn}" if each % 2 else f"好的 {turn}"
                    written.append((number, text))
                    centre.reply(f"86{number}", "10690000", text)
                if turn < KILLS:
                    program.until(lambda: len(between.calls) > (turn + 1) * EACH)  # noqa: B023
                    program.kill()
                    program.start()
            # Each SMS makes two calls, the first of which says that the carrier has it.
            calls = 2 * len(sent) + len(written)
            program.until(lambda: len(between.answered) == calls)
            again = sum(between.calls.values()) - calls
            assert again >= calls // Between.LOSES
        statuses, replies = program.drain(app, STATUS), program.drain(app, REPLY)
        assert sorted((row["sid"], row["report_status"]) for row in statuses) == sorted(
            sent.items()
        )
        assert {row["nationcode"] + row["mobile"] for row in statuses} == {
            "86" + sid[2:] for sid in sent
        }
        assert sorted((row["mobile"], row["text"]) for row in replies) == sorted(written)
        assert program.cli("parked", "list") == []
        assert program.cli("audit", "--json")["sound"]
