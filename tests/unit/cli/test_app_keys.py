"""An own appkey is read from a file or standard input: what is in argv is everybody's to see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pullstatus.cli import main

KEY = "0123456789abcdef0123456789abcdef"
OTHER_KEY = "FEDCBA98765432100123456789abcdef"


def run(folder: Path, *arguments: str, given: str | None = None) -> Result:
    store = f"sqlite:///{folder}/store.db?commits=thread"
    return CliRunner().invoke(main, [*arguments, "--store", store], input=given)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_key_comes_from_standard_input_or_a_file(tmp_path: Path, end: str) -> None:
    file = tmp_path / "key"
    file.write_text(OTHER_KEY + end, newline="")
    made = run(tmp_path, "app", "create", "7", "--appkey-file", "-", given=KEY + end)
    assert (made.exit_code, json.loads(made.stdout)["appkey"]) == (0, KEY)
    rotated = run(tmp_path, "app", "rotate-key", "7", "--appkey-file", str(file))
    assert (rotated.exit_code, json.loads(rotated.stdout)["appkey"]) == (0, OTHER_KEY)


@pytest.mark.parametrize(
    ("flags", "given", "status", "told"),
    [
        (["--appkey", KEY, "--appkey-file", "-"], KEY, 2, "contradict each other"),
        (["--appkey-file", "-", "--appkey", KEY], KEY, 2, "contradict each other"),
        (["--appkey-file", "-"], "", 1, "an appkey is 32 hexadecimal digits"),
        (["--appkey-file", "-"], f" {KEY}", 1, "an appkey is 32 hexadecimal digits"),
        (["--appkey-file", "-"], KEY * 1000, 2, "holds more than a secret"),
        (["--appkey-file", "/nowhere"], "", 2, "does not exist"),
    ],
)
def test_what_is_no_key_is_refused(
    tmp_path: Path, flags: list[str], given: str, status: int, told: str
) -> None:
    done = run(tmp_path, "app", "create", "7", *flags, given=given)
    assert (done.exit_code, done.stdout) == (status, "")
    assert told in done.stderr
    assert KEY not in done.stderr


def test_no_command_takes_a_secret_in_argv_only() -> None:
    """Wherever a key or token can be written on the command line, a file can be named instead."""
    found = []

    def look(path: str, command: object) -> None:
        for name, below in getattr(command, "commands", {}).items():
            look(f"{path} {name}", below)
        flags = {flag for each in getattr(command, "params", []) for flag in each.opts}
        for flag in flags:
            words = set(flag.strip("-").split("-"))
            elsewhere = words & {"file", "command"}  # these say where the secret is
            if words & {"appkey", "key", "token", "secret", "password"} and not elsewhere:
                found.append((path, flag, f"{flag}-file" in flags))

    look("pullstatus", main)
    assert sorted(found) == [
        ("pullstatus app create", "--appkey", True),
        ("pullstatus app rotate-key", "--appkey", True),
        ("pullstatus doctor", "--tls-key", False),  # a file
        ("pullstatus pull", "--secret-id", False),  # which everybody may know
        ("pullstatus pulls list", "--key", False),  # an Idempotency-Key
        ("pullstatus route add", "--token", False),  # a name
        ("pullstatus route test", "--token", False),  # a name
        ("pullstatus secret create", "--secret-id", False),  # which everybody may know
        ("pullstatus serve", "--tls-key", False),  # a file
    ]
