"""What is handed to an operator beside the program: units of systemd."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from pullstatus import limits
from pullstatus.cli import main
from tests.conftest import PACKAGES
from tests.harness import ROOT
from tools.licences import licences

SYSTEMD = ROOT / "dist/systemd"
SERVICES = sorted(SYSTEMD.glob("*.service"))
KNOWN = "Apache|BSD|MIT|MPL|PSF|LGPL|any-OSI"
EXPOSURE_MAX = 30  # tenths; what systemd itself calls OK, and a web server has 92


def settings(unit: Path) -> list[tuple[str, str]]:
    """What a unit sets, in order."""
    return re.findall(r"(?m)^(\w+)=(.*)$", unit.read_text(encoding="utf-8"))


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.stem)
def test_a_service_reaches_little_but_its_folder(service: Path) -> None:
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", service],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-200:] + judged.stderr


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.stem)
def test_a_service_runs_a_command_that_there_is(service: Path) -> None:
    [line] = [value for name, value in settings(service) if name == "ExecStart"]
    program, *words = shlex.split(line)
    assert program == "/opt/pullstatus/bin/pullstatus"
    command: click.Command = main.commands[words[0]]
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert {word for word in words[1:] if word.startswith("--")} <= flags


def test_all_services_are_held_alike() -> None:
    """What they may reach stands in each of them, since a unit includes no other."""
    beginning = "# It needs its folder, its settings, the network and nothing else.\n"
    held = {
        service.read_text(encoding="utf-8").partition(beginning)[2].partition("\n\n")[0].strip()
        for service in SERVICES
    }
    assert len(SERVICES) == 3
    assert len(held) == 1
    assert "ProtectSystem=strict" in held.pop()


def test_the_server_sees_when_the_machine_began() -> None:
    """From /proc/stat: its figures of itself are counted from there, and are left out without."""
    assert "ProcSubset" not in dict(settings(SYSTEMD / "pullstatus.service"))


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("timer", sorted(SYSTEMD.glob("*.timer")), ids=lambda path: path.stem)
def test_a_timer_has_a_service_and_a_time(timer: Path) -> None:
    assert timer.with_suffix(".service") in SERVICES
    [time] = [value for name, value in settings(timer) if name == "OnCalendar"]
    subprocess.run(["systemd-analyze", "calendar", time], check=True, capture_output=True)


def test_service_manager_waits_for_as_long_as_a_stop_takes() -> None:
    [stop_s] = [
        int(value)
        for name, value in settings(SYSTEMD / "pullstatus.service")
        if name == "TimeoutStopSec"
    ]
    assert limits.DRAIN_DEADLINE_S < stop_s <= 2 * limits.DRAIN_DEADLINE_S


def test_the_server_is_started_until_its_store_is_there() -> None:
    """A database may be away for long at boot, and a store in a migration until it is ready."""
    unit = settings(SYSTEMD / "pullstatus.service")
    assert ("StartLimitIntervalSec", "0") in unit
    assert ("Restart", "on-failure") in unit


def test_a_run_that_leaves_nothing_out_installs_all_that_tests_need() -> None:
    listed = set((ROOT / "requirements/debian.txt").read_text(encoding="utf-8").split())
    assert {package for packages in PACKAGES.values() for package in packages.split()} <= listed


def test_the_licence_of_all_that_the_program_runs_on_is_known() -> None:
    stated = licences()
    assert len(stated) > 30
    assert [name for name, licence in stated.items() if not re.search(KNOWN, licence)] == []


def test_the_page_tells_of_each_alarm_and_who_is_woken_by_it() -> None:
    rules = (ROOT / "dist/alerts.yml").read_text(encoding="utf-8")
    page = (ROOT / "docs/how-to/read-the-alarms.md").read_text(encoding="utf-8")
    alarms = re.findall(r"- alert: (\w+)\n(?:.*\n)*?\s+labels: \{ severity: (\w+) \}", rules)
    assert len(alarms) == rules.count("- alert:")
    assert sorted(alarms) == sorted(re.findall(r"(?m)^\| `(Pullstatus\w+)` \((\w+)\)", page))
