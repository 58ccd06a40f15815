"""What the machine refuses ends a command in one line."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from pullstatus.cli.statuses import FAILED, INTERRUPTED
from pullstatus.cli.surroundings import orderly_end

THREADS = RuntimeError("can't start new thread")
FILES = OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (THREADS, FAILED, "ulimit -u"),
        (THREADS, FAILED, "ulimit -v"),
        (FILES, FAILED, "ulimit -n"),
        (BaseExceptionGroup("both", [THREADS, FILES]), FAILED, "ulimit -u"),
        (
            OSError(errno.ENOSPC, "No space"),
            FAILED,
            "standard output, or a file, cannot be written",
        ),
        (
            OSError(errno.EBADF, "Bad"),
            FAILED,
            "standard input or output, or a file, cannot be used",
        ),
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


@pytest.mark.anew
def test_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    code = (
        "import os\n"
        "from pathlib import Path\n"
        "from pullstatus.cli.surroundings import orderly_end\n"
        "Path.cwd().rmdir()\n"
        "with orderly_end():\n"
        "    Path('a').absolute()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        FAILED,
        "Error: the folder that this was started in is gone: go to one that is there\n",
    )


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), ExceptionGroup("one", [FILES, RuntimeError("a bug")])]
)
def test_a_bug_is_no_refusal(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, orderly_end():
        raise error
    assert caught.value is error


@pytest.mark.anew
def test_what_errors_could_not_be_written_to_changes_no_status() -> None:
    """A line stays in the stream's buffer, and would be tried again when the interpreter ends."""
    code = (
        "import contextlib, sys\n"
        "from pullstatus.cli.surroundings import orderly_end\n"
        "with orderly_end(), contextlib.suppress(OSError):\n"
        "    sys.stderr.write('a line\\n')\n"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stderr=full, env={}, check=False)
    assert done.returncode == 0
