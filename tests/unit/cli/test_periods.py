"""Times and periods on the command line: what they mean, and what is none."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest
from click.testing import CliRunner, Result

from pullstatus.cli.output import exact_moment, moment
from pullstatus.cli.periods import period_options


@click.command()
@period_options
def told(from_ms: int | None, to_ms: int | None) -> None:
    """What a command is given, and that it can be shown."""
    for at_ms in (from_ms, to_ms):
        click.echo("-" if at_ms is None else f"{at_ms} {moment(at_ms)}")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(told, arguments)


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:00.001", 1),
        ("2026-11-23T04:00", 1_795_406_400_000),
        ("2026-11-23T04:00+08:00", 1_795_377_600_000),
        ("1969-12-31T23:59:59.9995Z", -1),
        ("0001-01-01", -62_135_596_800_000),
        ("0001-01-01T00:00-14:00", -62_135_546_400_000),
        ("9999-12-31T23:59:59.999999", 253_402_300_799_999),
        ("9999-12-31T23:59:59+14:00", 253_402_250_399_000),
    ],
)
def test_a_time_is_utc_unless_it_says_otherwise(text: str, at_ms: int) -> None:
    done = run("--from", text)
    assert done.output.splitlines() == [f"{at_ms} {moment(at_ms)}", "-"]
    assert run("--to", exact_moment(at_ms)).output.splitlines() == ["-", f"{at_ms} {moment(at_ms)}"]


@pytest.mark.parametrize(
    ("text", "ago_s"), [("0s", 0), ("90m", 5400), ("2h", 7200), ("007d", 604_800)]
)
def test_how_long_ago_counts_from_now(text: str, ago_s: int) -> None:
    before = datetime.now(UTC).timestamp()
    at_ms = int(run("--to", text).output.split()[1])
    after = datetime.now(UTC).timestamp()
    assert before - 0.001 <= at_ms / 1000 + ago_s <= after


@pytest.mark.parametrize("option", ["--from", "--to"])
@pytest.mark.parametrize(
    "text",
    [
        *("9999999d", "99999999999d", "99999999999999999999s", "9" * 5000 + "d"),
        *("\u00b2d", "\u0662d", "-1d", "1.5h", "d", "2w", "2D", "", "yesterday", "2026-13-01"),
        *("0001-01-01T00:00+14:00", "0001-01-01T00:00+00:01"),
        *("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.999999-00:01"),
        *("10000-01-01", "0000-01-01"),
    ],
    ids=lambda text: text[:24],
)
def test_what_is_no_time_is_an_error_of_usage(option: str, text: str) -> None:
    done = run(f"{option}={text}")
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"Invalid value for '{option}': a time is like 2026-11-23T04:00" in done.stderr


@pytest.mark.parametrize(("begin", "end"), [("1h", "2h"), ("2026-11-23", "2026-11-23T00:00")])
def test_a_period_that_ends_before_it_begins_is_an_error_of_usage(begin: str, end: str) -> None:
    done = run("--from", begin, "--to", end)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--from is not before --to" in done.stderr
    assert run("--from", "2h", "--to", "1h").exit_code == 0
