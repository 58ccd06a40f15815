"""The pytest plugin as its users have it: found by itself, silent until it is asked for."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
PULLS = """
    import time
    import httpx
    from pullstatus.wire.v5.pull import pull_request

    def pull(emulator, kind=0):
        path, body = pull_request(
            emulator.sdkappid, emulator.appkey, kind, 100, "1", int(time.time())
        )
        url = emulator.base_url + path
        return httpx.post(url, content=body, trust_env=False, timeout=60).json()["data"]
"""


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project whose warnings are errors."""
    pytester.makeini("[pytest]\naddopts = -W error -p no:cacheprovider -p no:xdist")
    pytester.makepyfile(pulls=PULLS)
    pytester.syspathinsert()
    return pytester


def test_plugin_is_found_by_itself() -> None:
    [found] = entry_points(group="pytest11", name="pullstatus")
    assert found.value == "pullstatus.emulator.pytest_plugin"


@pytest.mark.anew
def test_plugin_imports_next_to_nothing() -> None:
    """It is imported by every run of pytest in its environment, tests of ours or not."""
    code = (
        "import sys, pytest; before = set(sys.modules); import pullstatus.emulator.pytest_plugin;"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) == {"pullstatus"}


def test_fixture_is_an_emulator_of_ones_own(inner: pytest.Pytester) -> None:
    """One test's records, faults and sends are not there in the next; nothing is printed."""
    inner.makepyfile(
        """
        import httpx
        import pytest
        from pulls import pull

        def test_one(pullstatus_emulator, capfd):
            fed = pullstatus_emulator.feed([{"sid": "8:mine"}, {}])
            assert fed[0]["sid"] == "8:mine"
            pullstatus_emulator.faults.add("http", call="pullstatus")
            with pytest.raises(ValueError):
                pull(pullstatus_emulator)
            assert pullstatus_emulator.faults.hits == 1
            assert pull(pullstatus_emulator) == fed
            pullstatus_emulator.feed(3, type=1)
            assert pullstatus_emulator.waiting(type=1) == 3
            url = pullstatus_emulator.base_url + "/v5/tlssmssvr/pullstatus"
            httpx.post(url, trust_env=False, timeout=60)
            assert capfd.readouterr() == ("", "")

        def test_another(pullstatus_emulator):
            assert pull(pullstatus_emulator) == pull(pullstatus_emulator, 1) == []
            assert len(pullstatus_emulator.faults) == 0
            assert pullstatus_emulator.sent == []
            assert pullstatus_emulator.base_url.startswith("http://127.0.0.1:")
        """
    )
    inner.runpytest_subprocess().assert_outcomes(passed=2)


def test_how_to_shows_a_test_that_passes(inner: pytest.Pytester) -> None:
    """The page's own code, as a reader would paste it."""
    page = (ROOT / "docs/how-to/test-your-application.md").read_text(encoding="utf-8")
    shown, scenario = re.findall(r"(?ms)^```python\n(.*?)^```$", page)
    inner.makepyfile(shown)
    inner.makeconftest(scenario)
    inner.runpytest_subprocess().assert_outcomes(passed=1)


def test_session_fixture_lasts_and_a_scenario_can_be_given(inner: pytest.Pytester) -> None:
    inner.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def pullstatus_scenario():
            return {"traffic": {"statuses_at_start": 2}, "application": {"sdkappid": 1400000001}}
        """
    )
    inner.makepyfile(
        """
        from pulls import pull

        def test_one(pullstatus_emulator_session):
            assert pullstatus_emulator_session.sdkappid == 1400000001
            assert len(pull(pullstatus_emulator_session)) == 2

        def test_another(pullstatus_emulator_session, pullstatus_emulator):
            assert pull(pullstatus_emulator_session) == []
            pullstatus_emulator_session.reset()
            assert len(pull(pullstatus_emulator_session)) == 2
            assert len(pull(pullstatus_emulator)) == 2
        """
    )
    inner.runpytest_subprocess().assert_outcomes(passed=2)


def test_mistake_in_the_scenario_is_told_with_its_member(inner: pytest.Pytester) -> None:
    inner.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def pullstatus_scenario():
            return {"traffic": {"rate": 2}}
        """
    )
    inner.makepyfile("def test_one(pullstatus_emulator):\n    pass\n")
    result = inner.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*scenario: traffic.rate: is no member*"])


def test_without_the_server_only_the_fixtures_fail_and_say_why(inner: pytest.Pytester) -> None:
    inner.makeconftest("import sys\nsys.modules['apsw'] = sys.modules['starlette'] = None\n")
    inner.makepyfile(
        """
        def test_other():
            pass

        def test_emulator(pullstatus_emulator):
            pass
        """
    )
    result = inner.runpytest_subprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*pip install '/path/to/checkout[[]server]'*"])


SENDS = """
    import hashlib
    import time
    import httpx

    def send(emulator):
        now_s = int(time.time())
        signed = f"appkey={emulator.appkey}&random=1&time={now_s}&mobile=13800000000"
        body = {
            "tel": {"nationcode": "86", "mobile": "13800000000"},
            "type": 0,
            "msg": "hello",
            "time": now_s,
            "sig": hashlib.sha256(signed.encode()).hexdigest(),
        }
        url = f"{emulator.base_url}/v5/tlssmssvr/sendsms?sdkappid={emulator.sdkappid}&random=1"
        answer = httpx.post(url, json=body, trust_env=False, timeout=60).json()
        assert answer["result"] == 0, answer
        assert abs(emulator.sent[-1].time - now_s) <= 60
"""
FROZEN = """
    import asyncio
    import freezegun
    import pytest
    import time_machine
    from pullstatus import AsyncClient, Client, Kind
    from sends import send

    def use(emulator):
        # Sent, fed, pulled, and pulled once more after an answer that was lost, by either client.
        send(emulator)
        credentials = emulator.base_url, emulator.sdkappid, emulator.appkey
        emulator.faults.add("cut", call="pullstatus")
        emulator.feed(2)
        with Client(*credentials, keyed=True) as client:
            assert len(client.pull(Kind.DELIVERY_STATUS)) == 3

        async def pull():
            async with AsyncClient(*credentials) as client:
                return await client.pull(Kind.REPLY)

        emulator.feed(3, type=1)
        assert len(asyncio.run(pull())) == 3
        emulator.reset()

    @freezegun.freeze_time("2026-01-05 08:00:00")
    def test_freezegun(pullstatus_emulator):
        use(pullstatus_emulator)

    @freezegun.freeze_time("2016-01-05 08:00:00", real_asyncio=True)
    def test_freezegun_without_asyncio(pullstatus_emulator):
        use(pullstatus_emulator)

    def test_freezegun_in_a_block(pullstatus_emulator):
        with freezegun.freeze_time("2036-01-05"):
            use(pullstatus_emulator)
        use(pullstatus_emulator)

    @pytest.fixture
    def frozen():
        with freezegun.freeze_time("2020-01-05") as frozen:
            yield frozen

    def test_freezegun_before_the_fixture(frozen, pullstatus_emulator):
        use(pullstatus_emulator)
        frozen.tick(3600)
        use(pullstatus_emulator)

    def test_freezegun_after_the_fixture(pullstatus_emulator, frozen):
        use(pullstatus_emulator)

    @time_machine.travel("2016-01-05 08:00:00", tick=False)
    def test_time_machine(pullstatus_emulator):
        use(pullstatus_emulator)

    @pytest.fixture
    def moved():
        with time_machine.travel("2036-01-05", tick=False):
            yield

    def test_time_machine_before_the_fixture(moved, pullstatus_emulator):
        use(pullstatus_emulator)

    @freezegun.freeze_time("2026-01-05 08:00:00")
    def test_session(pullstatus_emulator_session):
        use(pullstatus_emulator_session)

    @freezegun.freeze_time("2028-01-05 08:00:00")
    def test_session_at_another_time(pullstatus_emulator_session):
        use(pullstatus_emulator_session)

    def test_no_clock_is_left_behind(pullstatus_emulator):
        use(pullstatus_emulator)
"""


def test_a_host_test_may_stop_or_move_the_clock(inner: pytest.Pytester) -> None:
    """Fixture and client go by it, and the fixture ends whatever the clock says."""
    inner.makepyfile(FROZEN)
    inner.makepyfile(sends=SENDS)
    inner.runpytest_subprocess(timeout=300).assert_outcomes(passed=10)


def test_a_status_is_due_though_the_clock_stands_still(inner: pytest.Pytester) -> None:
    """Also where the emulator is first imported then."""
    inner.makepyfile(sends=SENDS)
    inner.makepyfile(
        """
        import threading
        import freezegun
        from sends import send

        @freezegun.freeze_time("2026-01-05 08:00:00")
        def test_one():
            from pullstatus.emulator.thread import EmulatorThread

            with EmulatorThread({"sends": {"delay_s": 0.1}}) as emulator:
                send(emulator)
                for _ in range(6000):
                    if emulator.waiting():
                        return
                    threading.Event().wait(0.01)
                raise AssertionError("it never comes")
        """
    )
    inner.runpytest_subprocess(timeout=300).assert_outcomes(passed=1)


def test_sockets_may_be_forbidden_but_for_this_machine(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        """
        from pulls import pull

        def test_one(pullstatus_emulator):
            assert pull(pullstatus_emulator) == []
            assert len(pullstatus_emulator.feed(2)) == 2
            assert len(pull(pullstatus_emulator)) == 2
        """
    )
    inner.runpytest_subprocess("--disable-socket", "--allow-hosts=127.0.0.1").assert_outcomes(
        passed=1
    )
