"""Where master keys are: a file beside the store, made when it is needed, or wherever else.

A source is a text: one key a line, as 64 hexadecimal digits, the newest first. Blank lines and
those that begin with # say nothing. Whatever goes wrong is told without the text.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import re
import secrets
import select
import shlex
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from pullstatus import limits
from pullstatus.apps.sealing import MASTER_KEY_BYTES, MasterKey
from pullstatus.errors import SettingChanged, StoreRefused
from pullstatus.files import opened, read
from pullstatus.store import store_file

SUFFIX = "-master-key"  # behind the name of a store's file
COMMAND_S = 30
ALONE_S, LOOK_S = 10.0, 0.02  # how long others are waited for, and how often looked after
HEAD = (
    "# Master keys, the newest first: without them the appkeys in the store cannot be read.\n"
    "# Keep a copy of this file, and keep it apart from the backups of the store.\n"
)
_LINE = re.compile(rb"[0-9a-fA-F]{%d}" % (2 * MASTER_KEY_BYTES))


def masters_beside(store_url: str) -> OwnFile | Unnamed:
    """The file beside a store, which is there or will be made; beside some there can be none."""
    file = store_file(store_url)
    return Unnamed() if file is None else OwnFile(file.with_name(file.name + SUFFIX), file)


class OwnFile(msgspec.Struct, frozen=True):
    """A file that we made, or will, for its owner alone.

    Attributes:
        path: of the file.
        beside: the store's file, whose owner it is given to when root makes it.
    """

    path: Path
    beside: Path

    @property
    def place(self) -> str:
        """For people."""
        return str(self.path)

    def read(self) -> tuple[MasterKey, ...]:
        """The keys, newest first; none if there is no file yet. No link is followed.

        Raises:
            StoreRefused: it cannot be read, or is not as private as it must be.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(self.path, flags)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StoreRefused(f"{self.path} cannot be read: {error.strerror}") from error
        try:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode):
                raise StoreRefused(f"{self.path} cannot be read: it is no ordinary file")
            if mode & 0o077:
                raise StoreRefused(
                    f"{self.path} holds master keys, and others than its owner may use it:"
                    f" chmod 600 {self.path}"
                )
            return parse(os.read(handle, limits.MASTER_KEYS_BYTES_MAX + 1), self.place)
        except OSError as error:
            raise StoreRefused(f"{self.path} cannot be read: {error.strerror}") from error
        finally:
            os.close(handle)

    def replace(self, before: Sequence[MasterKey], masters: Sequence[MasterKey]) -> None:
        """Write these keys instead of those before, which `read` has told.

        Whoever reads it meanwhile sees those, or these.

        Raises:
            SettingChanged: others are there meanwhile; nothing was written.
            StoreRefused: it cannot be written, or its folder is kept locked.
        """
        with self._alone():
            if self.read() != tuple(before):
                raise SettingChanged(f"{self.path} was changed meanwhile; try again")
            self._write(masters, lambda part: part.replace(self.path))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold off whoever else replaces the file; by its folder, which is not replaced."""
        try:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreRefused(f"{self.path.parent} cannot be read: {error.strerror}") from error
        try:
            self._lock(folder)
            yield
        finally:
            os.close(folder)

    def _lock(self, folder: int) -> None:
        # Whoever may list the folder can keep it locked.
        until_s = time.monotonic() + ALONE_S
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until_s:
                    raise StoreRefused(
                        f"{self.path.parent} is locked by another program; end that first"
                    ) from None
                time.sleep(LOOK_S)
            else:
                return

    def make(self) -> tuple[MasterKey, ...]:
        """Make the file, with a key at random, unless somebody has meanwhile; what is in it.

        Raises:
            StoreRefused: it cannot be made.
        """

        def name(part: Path) -> None:
            try:
                os.link(part, self.path)
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                if not os.path.lexists(self.path):
                    part.replace(self.path)

        self._write([MasterKey(secrets.token_bytes(MASTER_KEY_BYTES))], name)
        return self.read()

    def _write(self, masters: Sequence[MasterKey], name: Callable[[Path], object]) -> None:
        part = self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}")
        text = HEAD + "".join(f"{master.secret.hex()}\n" for master in masters)
        if len(text) > limits.MASTER_KEYS_BYTES_MAX:
            raise StoreRefused(
                f"{self.path} has no room for more old master keys: `pullstatus keys rewrap"
                " --drop-old` forgets them"
            )
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(part, flags, 0o600), "wb") as file:
                if os.geteuid() == 0:
                    owner = self.beside.stat()
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            name(part)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StoreRefused(f"{self.path} cannot be written: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


class GivenFile(msgspec.Struct, frozen=True):
    """A file that somebody else keeps: named by an operator, or passed by systemd."""

    path: Path

    @property
    def place(self) -> str:
        """For people."""
        return str(self.path)

    def read(self) -> tuple[MasterKey, ...]:
        """The keys, newest first. A group may read the file, as services are often given theirs.

        Raises:
            StoreRefused: it cannot be read, or is not as private as it must be.
        """
        try:
            with opened(self.path) as handle:
                mode = os.fstat(handle).st_mode
                # A device's mode is not ours to mend.
                if mode & 0o027 and (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
                    raise StoreRefused(
                        f"{self.path} holds master keys, and everybody may read it, or others than"
                        f" its owner write it: chmod 600 {self.path}"
                    )
                return parse(read(handle, limits.MASTER_KEYS_BYTES_MAX), self.place)
        except OSError as error:
            raise StoreRefused(f"{self.path} cannot be read: {error.strerror}") from error


class Command(msgspec.Struct, frozen=True):
    """A program that prints them, such as one that asks a vault.

    Attributes:
        line: the command, in the words of a shell, which is not asked.
    """

    line: str

    @property
    def place(self) -> str:
        """For people. What the program is given may be secret."""
        return "what the command for the master key prints"

    def read(self) -> tuple[MasterKey, ...]:
        """The keys, newest first.

        Raises:
            StoreRefused: the program fails, or prints something else.
        """
        try:
            words = shlex.split(self.line)
            if not words:
                raise StoreRefused("the command for the master key is empty: name a program")
            text, status = _run(words)
        except ValueError as error:
            raise StoreRefused(f"the command for the master key cannot be read: {error}") from None
        except OSError as error:
            raise StoreRefused(
                f"the command for the master key cannot be run: {error.strerror}"
            ) from error
        except subprocess.TimeoutExpired:
            raise StoreRefused(
                f"the command for the master key took over {COMMAND_S} s and was ended"
            ) from None
        if status:
            raise StoreRefused(f"the command for the master key ended with status {status}")
        return parse(text, self.place)


def _run(words: Sequence[str]) -> tuple[bytes, int]:
    """What a program prints, and the status it ends with; 0 where it printed too much.

    What it leaves running may keep its output open: that is no longer waited for.

    Raises:
        OSError: it cannot be run.
        subprocess.TimeoutExpired: it goes on for too long, and was ended.
    """
    until_s = time.monotonic() + COMMAND_S
    with subprocess.Popen(  # noqa: S603 - the operator's own command
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        try:
            text = _printed(process, until_s)
            if len(text) > limits.MASTER_KEYS_BYTES_MAX:
                return text, 0
            return text, process.wait(max(0.0, until_s - time.monotonic()))
        finally:
            process.kill()


def _printed(process: subprocess.Popen[bytes], until_s: float) -> bytes:
    assert process.stdout is not None
    handle = process.stdout.fileno()
    looks = select.poll()
    looks.register(handle, select.POLLIN)
    text = b""
    while len(text) <= limits.MASTER_KEYS_BYTES_MAX:
        if time.monotonic() >= until_s:
            raise subprocess.TimeoutExpired(process.args, COMMAND_S)
        ended = process.poll() is not None  # all that it printed is there then
        if looks.poll(0 if ended else LOOK_S * 1000):
            piece = os.read(handle, limits.MASTER_KEYS_BYTES_MAX + 1)
            if not piece:
                break
            text += piece
        elif ended:
            break
    return text


class Unnamed(msgspec.Struct, frozen=True):
    """No source, of a store that lies in no folder: nobody misses it but who needs a key."""

    @property
    def place(self) -> str:
        """For people."""
        return "no source that was named"

    def read(self) -> tuple[MasterKey, ...]:
        """No keys.

        Raises:
            StoreRefused: always; how to name a source.
        """
        raise StoreRefused(
            "the store lies in no folder of this machine: say where its master key is with"
            " --master-key-file or --master-key-command"
        )


Masters = OwnFile | GivenFile | Command | Unnamed
"""A source of master keys: all are read, when a key is needed; ours is written."""


def own(masters: Masters) -> OwnFile:
    """The source, if it is ours to write.

    Raises:
        StoreRefused: it is not; what to do instead.
    """
    if isinstance(masters, OwnFile):
        return masters
    if isinstance(masters, Unnamed):
        masters.read()  # which says how to name one
    raise StoreRefused(
        f"{masters.place} is not written by pullstatus: put a new key in its first line and leave"
        " the old one in the next; `openssl rand -hex 32` prints one"
    )


def parse(text: bytes, place: str) -> tuple[MasterKey, ...]:
    """The keys of a source.

    Raises:
        StoreRefused: there is something else in it, or nothing.
    """
    if len(text) > limits.MASTER_KEYS_BYTES_MAX:
        raise StoreRefused(f"{place}: over {limits.MASTER_KEYS_BYTES_MAX} bytes are no master keys")
    masters = []
    text = text.removeprefix(codecs.BOM_UTF8)  # which editors of Windows put in front
    for number, line in enumerate(map(bytes.strip, text.splitlines()), start=1):
        if line and not line.startswith(b"#"):
            if _LINE.fullmatch(line) is None:
                raise StoreRefused(
                    f"{place}: line {number} is no master key, which is"
                    f" {2 * MASTER_KEY_BYTES} hexadecimal digits"
                )
            masters.append(MasterKey(bytes.fromhex(line.decode())))
    if not masters:
        raise StoreRefused(
            f"{place} holds no master key, which is a line of {2 * MASTER_KEY_BYTES} hexadecimal"
            " digits: `openssl rand -hex 32` prints one"
        )
    return tuple(dict.fromkeys(masters))
