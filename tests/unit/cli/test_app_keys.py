"""An own appkey is read from a file or standard input: what is in argv is everybody's to see."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pullstatus import apps
from pullstatus.apps.values import key_mark
from pullstatus.cli import main
from pullstatus.cli.doctor.store import look
from pullstatus.errors import StoreUnavailable
from pullstatus.store import Noted, Store, open_store

KEY = "0123456789abcdef0123456789abcdef"
OTHER_KEY = "FEDCBA98765432100123456789abcdef"


def run(folder: Path, *arguments: str, given: str | None = None) -> Result:
    store = f"sqlite:///{folder}/store.db?commits=thread"
    return CliRunner().invoke(main, [*arguments, "--store", store], input=given)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_key_comes_from_standard_input_or_a_file(tmp_path: Path, end: str, encoding: str) -> None:
    file = tmp_path / "key"
    file.write_text(OTHER_KEY + end, newline="", encoding=encoding)
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
        (["--appkey-file", "/proc/self/mem"], "", 1, "/proc/self/mem cannot be read: Input/output"),
    ],
)
def test_what_is_no_key_is_refused(
    tmp_path: Path, flags: list[str], given: str, status: int, told: str
) -> None:
    done = run(tmp_path, "app", "create", "7", *flags, given=given)
    assert (done.exit_code, done.stdout) == (status, "")
    assert told in done.stderr
    assert KEY not in done.stderr


def test_file_of_applications_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "app", "import", "/proc/self/mem")
    assert done.exit_code == 1
    assert "/proc/self/mem cannot be read: Input/output error" in done.stderr


class FailsBehind:
    """A store that cannot do anything any more once a command has committed."""

    def __init__(self, store: Store, *, closes: bool) -> None:
        self._store, self._closes, self._failed = store, closes, False

    def __getattr__(self, name: str) -> object:
        verb = getattr(self._store, name)
        if not inspect.iscoroutinefunction(verb) or (name == "close" and self._closes):
            return verb

        async def call(*arguments: object, **named: object) -> object:
            if self._failed and name != "close":
                raise StoreUnavailable("another process holds the store")
            done = await verb(*arguments, **named)
            if name == "close":
                raise StoreUnavailable("another process holds the store")
            self._failed = self._failed or (name == "change" and done and "act" in named)
            return done

        return call


@contextlib.contextmanager
def failing_behind(monkeypatch: pytest.MonkeyPatch, *, closes: bool) -> Iterator[None]:
    """Stores of commands are such ones."""

    async def opened(store_url: str, *, create: bool) -> FailsBehind:
        return FailsBehind(await open_store(store_url, create=create), closes=closes)

    with monkeypatch.context() as patch:
        patch.setattr("pullstatus.cli.session.open_store", opened)
        yield


MAKING = {
    "app create": (["8"], "appkey"),
    "app import": (["-"], "appkey"),
    "app rotate-key": (["7"], "appkey"),
    "token create": (["gateway"], "token"),
    "secret create": (["--app", "7"], "secret_key"),
}


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("command", MAKING)
def test_what_was_made_is_shown_whatever_fails_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, closes: bool
) -> None:
    assert run(tmp_path, "app", "create", "7").exit_code == 0
    flags, member = MAKING[command]
    with failing_behind(monkeypatch, closes=closes):
        done = run(tmp_path, *command.split(), *flags, given="sdkappid\n8\n")
    shown = json.loads(done.stdout)
    assert (shown[0] if isinstance(shown, list) else shown)[member]
    assert done.exit_code == (0 if closes else 1), done.stderr
    if command == "app rotate-key":
        listed = json.loads(run(tmp_path, "app", "show", "7", "--json").stdout)
        assert listed["appkeys"][0]["ends_with"] == shown["appkey"][-4:]


def test_a_removal_that_was_cut_off_says_how_to_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so does whatever meets the application that it has left, which is refused everything."""
    assert run(tmp_path, "app", "create", "7").exit_code == 0
    with failing_behind(monkeypatch, closes=True):
        done = run(tmp_path, "app", "delete", "7")
    assert done.exit_code == 1
    assert "`pullstatus app delete 7` finishes that" in done.stderr
    found, findings = asyncio.run(look(f"sqlite:///{tmp_path}/store.db", None))
    assert found is not None
    assert found.leaving == (7,)
    assert "pullstatus app delete 7" in [finding.fix for finding in findings]
    for words in (["set", "7", "--rate", "1"], ["rotate-key", "7"], ["import", "-"]):
        refused = run(tmp_path, "app", *words, given="sdkappid\n7\n")
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "`pullstatus app delete 7` ends that" in refused.stderr
    assert run(tmp_path, "app", "delete", "7").exit_code == 0


def test_a_rotation_that_ends_the_newer_key_says_so(tmp_path: Path) -> None:
    """Uses are known a minute later, so somebody may sign with it by now."""
    run(tmp_path, "app", "create", "7")

    async def note_use() -> None:
        store = await open_store(f"sqlite:///{tmp_path}/store.db")
        try:
            [application] = await apps.applications(store)
            await store.mark({key_mark(7, application.appkeys[0]): Noted(1)})
        finally:
            await store.close()

    asyncio.run(note_use())
    made = run(tmp_path, "app", "rotate-key", "7")
    assert "has ended" not in made.stderr
    newer = json.loads(made.stdout)["appkey"]
    made = run(tmp_path, "app", "rotate-key", "7")
    assert f"which ends with {newer[-4:]}, has ended" in made.stderr
    assert made.exit_code == 0


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
