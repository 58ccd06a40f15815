"""Commands are loaded when they are called, and say what to install when they can't be."""

from __future__ import annotations

import builtins
import subprocess
import sys
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pullstatus.__main__ import main as program
from pullstatus.cli import COMMANDS, main
from pullstatus.cli.lazy import Commands, LazyGroup, Planned

pytestmark = pytest.mark.anew

SERVER_ONLY = ("apsw", "httptools", "prometheus_client", "starlette", "structlog", "uvicorn")


@pytest.mark.parametrize("name", COMMANDS)
def test_list_says_what_the_command_itself_says(name: str) -> None:
    assert isinstance(main.commands, Commands)
    command = main.commands[name]
    assert command.name == name
    assert main.commands.planned[name].get_short_help_str(999) == command.get_short_help_str(999)


def test_help_loads_no_command() -> None:
    """Neither a client nor a server: --help and --version are quick, and always there."""
    code = (
        "import sys; from click.testing import CliRunner; from pullstatus.cli import main\n"
        "print(CliRunner().invoke(main, ['--help']).output)\n"
        "loaded = {'httpx', 'rich', 'apsw', 'starlette', 'pullstatus.client'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"  {name}" in done.stdout for name in COMMANDS)


def test_what_is_not_drawn_and_not_encrypted_loads_nothing_for_it() -> None:
    """Commands that programs read start without rich, and servers behind a proxy without X.509."""
    code = (
        "import sys, pullstatus.cli.apps, pullstatus.cli.find, pullstatus.cli.soundness\n"
        "assert 'rich' not in sys.modules\n"
        "import pullstatus.cli.serve\n"
        "assert 'cryptography.x509' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["pull", "push", "sign", "verify"])
def test_commands_of_the_bare_install_need_no_server(command: str) -> None:
    """With every package of the extra `server` out of reach they still load."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({SERVER_ONLY!r}))\n"
        f"from pullstatus.cli import main; main([{command!r}, '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["serve"], ["audit"], ["app", "list"], ["demo", "--once"], ["emulate"]]
)
def test_commands_of_the_server_say_what_to_install(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name in {SERVER_ONLY!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        f"from pullstatus.cli import main; main({arguments!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install '/path/to/checkout[server]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_module_of_our_own_that_is_missing_is_a_bug() -> None:
    """It must not be taken for something to install."""

    @click.command("broken")
    def broken() -> None:
        raise ModuleNotFoundError("No module named 'pullstatus.x'", name="pullstatus.x")

    planned = Commands({"other": Planned("pullstatus.cli.serve:serve", "Other.")})
    planned["broken"] = broken
    group = LazyGroup("main", commands=planned)
    assert isinstance(CliRunner().invoke(group, ["broken"]).exception, ModuleNotFoundError)
    assert sorted(planned) == ["broken", "other"]
    assert len(planned) == 2
    del planned["broken"]
    assert list(planned) == ["other"]


def test_ctrl_c_while_the_program_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes a moment, and longer on a busy machine."""
    real = builtins.__import__

    def interrupted(name: str, *rest: Any) -> Any:  # noqa: ANN401 - as `__import__`
        if name == "pullstatus.cli":
            raise KeyboardInterrupt
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    with pytest.raises(SystemExit) as ended:
        program()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Interrupted\n"


@pytest.mark.parametrize(
    ("typed", "status", "told"),
    [
        (KeyboardInterrupt(), 130, "Interrupted\n"),
        (EOFError(), 1, "Aborted!\n"),
        ("n", 1, "Aborted!\n"),
    ],
    ids=["Ctrl-C", "Ctrl-D", "no"],
)
def test_ctrl_c_at_a_question_ends_as_it_does_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: BaseException | str,
    status: int,
    told: str,
) -> None:
    """The library that asks makes the same of it as of the answer no."""

    def answer(_question: str) -> str:
        if isinstance(typed, BaseException):
            raise typed
        return typed

    @click.command("asks")
    def asks() -> None:
        click.confirm("Do it?", abort=True, err=True)

    monkeypatch.setattr(click.termui, "visible_prompt_func", answer)
    planned = Commands({})
    planned["asks"] = asks
    with pytest.raises(SystemExit) as ended:
        LazyGroup("main", commands=planned).main(["asks"])
    assert ended.value.code == status
    assert capsys.readouterr().err.endswith(told)
