"""What the machine refuses ends a command in one line."""

from __future__ import annotations

import errno

import pytest

from pullstatus.cli.statuses import FAILED, INTERRUPTED
from pullstatus.cli.surroundings import orderly_end

THREADS = RuntimeError("can't start new thread")
FILES = OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (THREADS, FAILED, "ulimit -u"),
        (FILES, FAILED, "ulimit -n"),
        (BaseExceptionGroup("both", [THREADS, FILES]), FAILED, "ulimit -u"),
        (KeyboardInterrupt(), INTERRUPTED, "Interrupted"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), FAILED, ""),
    ],
)
def test_refusal_of_the_machine_is_one_line(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, orderly_end():
        raise error
    assert caught.value.code == status
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == bool(said)


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), ExceptionGroup("one", [FILES, RuntimeError("a bug")])]
)
def test_a_bug_is_no_refusal(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, orderly_end():
        raise error
    assert caught.value is error
