"""What a command finds around it, and how it ends there: nothing of it may end in a traceback.

Commands run from init scripts that close the standard streams, in containers without users, with
variables that somebody else has set, on disks that are full.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import click

from pullstatus.cli.statuses import FAILED, INTERRUPTED, WRONG
from pullstatus.terminal import visible

__all__ = ["discard", "fill_standard_streams", "operator", "orderly_end"]

_CLOSED = ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY))
"""How a standard stream that is closed is opened. Input and output keep failing: they must not
pass for an empty file, or for records that were written. What is said on the last goes nowhere."""


def fill_standard_streams() -> None:
    """Put something on descriptors 0 to 2 where they are closed.

    Otherwise the next file or socket gets that number, and what is printed goes there. libuv
    aborts the program when it meets such a one. Processes that this one starts get it as well.
    """
    for number, mode in _CLOSED:
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):  # no /dev/null: then it stays as it is
                opened = os.open(os.devnull, mode)
                if opened == number:
                    os.set_inheritable(number, True)  # noqa: FBT003 - it takes no keyword
                else:
                    os.dup2(opened, number)
                    os.close(opened)
    sys.stdin = sys.stdin or _stream(0, "r")
    sys.stdout = sys.stdout or _stream(1, "w")
    sys.stderr = sys.stderr or _stream(2, "w")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A locale that does not have a letter must not be the reason to say nothing.
        sys.stdout.reconfigure(errors="backslashreplace")


def _stream(number: int, mode: str) -> io.TextIOWrapper:
    raw = io.FileIO(number, mode, closefd=False)
    buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, errors="backslashreplace")


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
    """Turn what the machine refuses, and Ctrl-C, into one line and a status.

    Our own errors are told by `session.plainly`; what is left, and is no `OSError`, is a bug.
    """
    try:
        try:
            yield
        finally:
            _flush(sys.stderr)
            sys.stdout.flush()  # or it would fail at the interpreter's end, where nobody is told
    except KeyboardInterrupt:
        _end("Interrupted", INTERRUPTED)
    except UnicodeEncodeError as error:
        if not any("\ud800" <= character <= "\udfff" for character in error.object):
            raise
        _end("Error: an argument, a variable or the name of a file or folder is no UTF-8", WRONG)
    except (OSError, RuntimeError, BaseExceptionGroup) as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        # As other programs: whoever closed the pipe has seen enough.
        _end("" if refusal.errno == errno.EPIPE else f"Error: {_said(refusal)}", FAILED)


def _end(said: str, status: int) -> None:
    if said:
        with contextlib.suppress(OSError):
            click.echo(visible(said), err=True)
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    sys.exit(status)


def _flush(stream: TextIO) -> None:
    """What cannot be written stays in its buffer, and the interpreter would try again: 120."""
    try:
        stream.flush()
    except OSError:
        discard(stream)


def discard(stream: TextIO) -> None:
    """Give up what a stream holds and could not write, and all that follows."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _refusal(error: BaseException) -> OSError | None:
    """What the machine refused, if that is all that went wrong."""
    if isinstance(error, BaseExceptionGroup):
        found = [_refusal(one) for one in error.exceptions]
        return found[0] if all(found) else None
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        # The interpreter says this, and not what the system did, when a limit is reached.
        return OSError(
            errno.EAGAIN,
            "no more threads: raise the limit on processes (ulimit -u), or that on memory"
            " (ulimit -v)",
        )
    if isinstance(error, FileNotFoundError) and error.filename is None and _is_nowhere():
        return OSError(
            errno.ENOENT, "the folder that this was started in is gone: go to one that is there"
        )
    return error if isinstance(error, OSError) else None


def _is_nowhere() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _said(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in (errno.EMFILE, errno.ENFILE):
        reason += ": raise the limit on open files (ulimit -n)"
    if isinstance(error.filename, str | bytes):
        return f"{click.format_filename(error.filename)}: {reason}"
    if error.errno == errno.ENOSPC:
        return f"standard output, or a file, cannot be written: {reason}{_PERHAPS_DONE}"
    if error.errno in (errno.EBADF, errno.EIO):  # which reading meets as well
        return f"standard input or output, or a file, cannot be used: {reason}{_PERHAPS_DONE}"
    return reason


_PERHAPS_DONE = "; what the command is for may be done all the same: see pullstatus acts list"


def operator() -> str:
    """Who gives the command, for an audit row: a login name, or a user's number if it has none."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user is often a number only
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "somebody"
    return name.encode(errors="backslashreplace").decode()
