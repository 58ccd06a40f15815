"""The product as the thing measured: a store in a temporary folder, filled, served, looked at.

Records go in through the Store's own verbs, a few hundred thousand a second; applications and the
token through the same functions that the commands use.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Self, TypeVar, cast
from uuid import uuid4

import msgspec

from bench.process import ProcessFailed, Running
from bench.records import as_array, record
from pullstatus.apps import (
    GivenFile,
    Keyring,
    Operator,
    SecretPair,
    Wanted,
    create_application,
    create_pair,
    create_token,
    masters_beside,
    open_keyring,
)
from pullstatus.apps.values import application_setting
from pullstatus.apps.wrapping import guard
from pullstatus.cli.load import Request
from pullstatus.records import Kind
from pullstatus.store import Append, Change, Mailbox, Store, chunk, open_store
from pullstatus.store.sqlite.connection import open_reader, open_writer
from pullstatus.wire.api3 import signing
from pullstatus.wire.v5.pull import PULL_PATH
from pullstatus.wire.v5.signature import sign

R = TypeVar("R")

APPKEY = "5f03a35d00ee52a21327ab048186a2c4"
FIRST_SDKAPPID = 1400006666
PAGE = 100
ABREAST = 200  # appends under way at a time while filling, and applications made in a commit
INDEX_S = 600.0  # how long the index may take for all that is laid
REST_S = 1.0  # without a commit: more than there is between two that join what came singly


def pull_request(
    sdkappid: int = FIRST_SDKAPPID, *, count_max: int = PAGE, keep_alive: bool = True
) -> Request:
    """A signed pull of a page. It is good for ten minutes, however often it is sent."""
    now_s = int(time.time())
    body = {"max": count_max, "sig": sign(APPKEY, "7", now_s), "time": now_s, "type": 0}
    return Request(
        f"{PULL_PATH}?sdkappid={sdkappid}&random=7",
        msgspec.json.encode(body),
        keep_alive=keep_alive,
    )


def action_request(pair: SecretPair, sdkappid: int, age_s: int = 0) -> Request:
    """The same as a call of API 3.0, in the words of an official SDK. It is good for five.

    Args:
        age_s: as if it had been signed so long ago.
    """
    body = json.dumps({"SmsSdkAppId": str(sdkappid), "Limit": PAGE}).encode()
    headers = {
        "Host": "mailbox.example.com",
        "Content-Type": "application/json",
        "X-TC-Action": "PullSmsSendStatus",
        "X-TC-RequestClient": "SDK_PYTHON_3.1.195",
        "X-TC-TraceId": str(uuid4()),
        "X-TC-Timestamp": str(int(time.time()) - age_s),
        "X-TC-Version": "2021-01-11",
        "X-TC-Region": "ap-guangzhou",
        "X-TC-Language": "zh-CN",
    }
    encoded = {name.lower().encode(): value.encode() for name, value in headers.items()}
    signed = signing.Request("POST", b"", encoded, body)
    authorization = signing.sign(signed, pair.id, pair.secret_key).decode()
    return Request("/", body, headers | {"Authorization": authorization})


def ingest_request(
    token: str,
    count: int,
    sdkappid: int = FIRST_SDKAPPID,
    *,
    body: bytes = b"",
    what: str = "delivery-statuses",
) -> Request:
    """A post of `count` delivery statuses: of the first ones, or of `body`, whatever that has."""
    return Request(
        f"/ingest/{sdkappid}/{what}",
        body or as_array(count),
        {"Authorization": f"Bearer {token}"},
    )


def callback_request(token: str, body: bytes) -> Request:
    """The same the way that a carrier's platform posts them."""
    return Request(f"/callbacks/{token}", body)


class Product:
    """A store of its own and, once `serve` was called, a server on it.

    Leaving the context ends the server and removes the store.

    Attributes:
        token: what posts show; with one application, for that alone.
        rested_s: how long it has waited, in all, for what came singly to be joined, and for the
            index.
    """

    def __init__(self, folder: Path, applications: int = 1, database: str = "") -> None:
        """Make the store in a new folder below `folder`, with so many applications.

        Args:
            database: URL of an empty one, where the store is to be instead; whose it is ends it.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="pullstatus-bench-", dir=folder))
        self.file = self.folder / "store.db"
        self.url = database or f"sqlite:///{self.file}"
        self.masters = self._with_master_key() if database else masters_beside(self.url)
        self.sdkappids = range(FIRST_SDKAPPID, FIRST_SDKAPPID + applications)
        self.running: Running | None = None
        self.rested_s = 0.0
        self._filled = 0
        try:
            self.token = self._made()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def address(self) -> str:
        """Where it listens, as a URL."""
        assert self.running is not None
        return self.running.address

    def server(self) -> Running:
        """The server, which runs."""
        assert self.running is not None
        return self.running

    def serve(self, *flags: str) -> Running:
        """Start the server, with these flags beside its usual ones."""
        assert self.running is None
        command = [str(Path(sys.executable).with_name("pullstatus")), *self._serving(), *flags]
        self.running = Running(command, self.folder / "server.log")
        return self.running

    def stop(self) -> None:
        """Stop the server, cleanly."""
        if self.running is not None:
            self.running.stop()
            self.running = None

    def kill(self) -> None:
        """End the server as a crash would."""
        assert self.running is not None
        self.running.kill()
        self.running = None

    def fill(self, count: int, *, at_once: int = PAGE, step: Callable[[float], None]) -> None:
        """Append records to the first application's mailbox, with the server down.

        Args:
            at_once: records in one append.
            step: called with the share done, now and then.
        """
        if count <= 0:
            return
        first = self._filled
        mailbox = Mailbox(self.sdkappids[0], Kind.DELIVERY_STATUS)

        async def append_all(store: Store) -> None:
            at_ms = time.time_ns() // 1_000_000
            for begin in range(first, first + count, at_once * ABREAST):
                end = min(begin + at_once * ABREAST, first + count)
                batches = [range(at, min(at + at_once, end)) for at in range(begin, end, at_once)]
                await asyncio.gather(
                    *(
                        store.append(Append(mailbox, [record(n) for n in batch], at_ms))
                        for batch in batches
                    )
                )
                step((end - first) / count)

        self.with_store(append_all)
        self._filled += count
        os.sync()  # what is still on its way to the disk belongs to nobody's measurement

    def fill_each(self, count: int, *, at_once: int = PAGE, rest: bool = False) -> None:
        """Append `count` records to every application's mailbox, with the server down.

        Args:
            at_once: records in one append. What of a mailbox comes in several is in as many
                commits, with those of other mailboxes.
            rest: leave the store alone until it has joined what came singly.
        """

        async def append_all(store: Store) -> None:
            at_ms = time.time_ns() // 1_000_000
            for some in _slices(self.sdkappids, ABREAST):
                for first in range(0, count, at_once):
                    entries = [record(n) for n in range(first, min(first + at_once, count))]
                    await asyncio.gather(
                        *(
                            store.append(
                                Append(Mailbox(each, Kind.DELIVERY_STATUS), entries, at_ms)
                            )
                            for each in some
                        )
                    )
            if rest:
                await self._rest()

        self.with_store(append_all)
        os.sync()

    def await_index(self) -> None:
        """Leave the server alone until the index has all that was laid: that is nobody's request.

        Raises:
            ProcessFailed: it has not in `INDEX_S`.
        """
        began_s = time.monotonic()
        while self.figure("pullstatus_unfollowed"):
            if time.monotonic() > began_s + INDEX_S:
                raise ProcessFailed(f"the index was not there after {INDEX_S:.0f} s")
            time.sleep(0.2)
        self.rested_s += time.monotonic() - began_s

    def figure(self, name: str) -> float:
        """A figure of the server's `/metrics` that has no labels."""
        with urllib.request.urlopen(f"{self.address}/metrics") as answer:
            said = answer.read().decode()
        [line] = [line for line in said.splitlines() if line.startswith(f"{name} ")]
        return float(line.split()[-1])

    def keep(self) -> None:
        """Keep a copy of the store as it is, with the server down."""
        shutil.copyfile(self.file, self.folder / "kept")

    def put_back(self) -> None:
        """Make the store what it was when it was kept, with the server down."""
        shutil.copyfile(self.folder / "kept", self.file)
        os.sync()

    def make_pair(self) -> SecretPair:
        """Make a secret key pair for all of its applications."""

        async def make(store: Store) -> SecretPair:
            keyring = await open_keyring(store, self.masters)
            return await create_pair(store, self.sdkappids, by=_bench(), keyring=keyring)

        return self.with_store(make)

    def make_token(self, sdkappid: int) -> str:
        """Make a token for one application alone, as callbacks need."""

        async def make(store: Store) -> str:
            _, secret = await create_token(store, "one", by=_bench(), sdkappid=sdkappid)
            return secret

        return self.with_store(make)

    def waiting(self) -> int:
        """Records that wait, over all mailboxes; with the server up or down."""

        async def count(store: Store) -> int:
            return sum(row.waiting for row in await store.backlog())

        return self.with_store(count)

    def size_bytes(self) -> int:
        """Size of the store's files."""
        return sum(file.stat().st_size for file in self.files())

    def files(self) -> Iterable[Path]:
        """The store's files."""
        return self.folder.glob(f"{self.file.name}*")

    def make_plain(self) -> None:
        """Store each chunk as it is before it is compressed, with the server down."""
        with contextlib.closing(open_writer(self.file)) as connection, connection:
            keys = cast("list[tuple[int]]", connection.execute("SELECT key FROM chunk").fetchall())
            for (key,) in keys:
                [row] = connection.execute("SELECT bounds, body FROM chunk WHERE key = ?", (key,))
                bounds, body = cast("tuple[bytes, bytes]", row)
                connection.execute(
                    "UPDATE chunk SET checksum = ?, bounds = ?, body = ? WHERE key = ?",
                    (*chunk.placed(key, chunk.plain(list(chunk.unpack(bounds, body)))), key),
                )

    def chill(self) -> None:
        """Make the kernel forget the store's pages, with the server down; needs no privilege."""
        os.sync()  # only clean pages can be dropped
        for file in self.files():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)

    def command(self, *words: str) -> list[str]:
        """A command of the program, on this store."""
        program = str(Path(sys.executable).with_name("pullstatus"))
        return [program, *words, "--store", self.url]

    async def _rest(self) -> None:
        """Wait until nothing is committed any more."""
        began_s = since_s = time.monotonic()
        with contextlib.closing(open_reader(self.file)) as reader:
            seen = None
            while (now_s := time.monotonic()) - since_s < REST_S:
                if (version := reader.execute("PRAGMA data_version").get) != seen:
                    seen, since_s = version, now_s
                await asyncio.sleep(REST_S / 10)
        self.rested_s += time.monotonic() - began_s

    def _serving(self) -> list[str]:
        flags = ["--port", "0", "--store", self.url, "--log-level", "warning"]
        if isinstance(self.masters, GivenFile):
            flags += ["--master-key-file", str(self.masters.path)]
        return ["serve", *flags]

    def _with_master_key(self) -> GivenFile:
        """Beside a database there is no file; so one is given."""
        file = self.folder / "master.key"
        file.touch(mode=0o600)
        file.write_text(_random_hex(32), encoding="ascii")
        return GivenFile(file)

    def _made(self) -> str:
        return self.with_store(self._found)

    async def _found(self, store: Store) -> str:
        by = _bench()
        keyring = await open_keyring(store, self.masters)
        await create_application(store, self.sdkappids[0], by=by, keyring=keyring, appkey=APPKEY)
        for some in _slices(self.sdkappids[1:], ABREAST):
            # As the command does for each, but many in a commit: a million take a minute.
            changes = [_made(each, by, keyring) for each in some]
            assert await store.change(guard(keyring), *changes)
        # Callbacks take the token of one application only.
        only = self.sdkappids[0] if len(self.sdkappids) == 1 else None
        _, secret = await create_token(store, "bench", by=by, sdkappid=only)
        return secret

    def with_store(self, work: Callable[[Store], Awaitable[R]]) -> R:
        """Do something with the store, opened beside whatever server it has."""

        async def run() -> R:
            store = await open_store(self.url)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())


class Checkout(Product):
    """The product as it is in another checkout, with a store that its own commands have made.

    What that store holds is its own affair: records go in and out by HTTP alone.
    """

    def __init__(self, folder: Path, tree: Path) -> None:
        """With one application, by the program in `tree`."""
        self._environment = {**os.environ, "PYTHONPATH": str(tree.resolve() / "src")}
        self._program = [sys.executable, "-c", "from pullstatus.cli import main; main()"]
        super().__init__(folder)

    def serve(self, *flags: str) -> Running:
        """Start that checkout's server."""
        assert self.running is None
        command = [*self._program, *self._serving(), *flags]
        self.running = Running(command, self.folder / "server.log", environment=self._environment)
        return self.running

    def _made(self) -> str:
        self._command("app", "create", str(self.sdkappids[0]), "--appkey", APPKEY)
        made = self._command("token", "create", "bench", "--sdkappid", str(self.sdkappids[0]))
        token: str = msgspec.json.decode(made)["token"]
        return token

    def _command(self, *arguments: str) -> str:
        ran = subprocess.run(
            [*self._program, *arguments],
            env={**self._environment, "PULLSTATUS_STORE": self.url},
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise ProcessFailed(f"{arguments[0]} {arguments[1]}: {ran.stderr.strip()[-500:]}")
        return ran.stdout


def _made(sdkappid: int, by: Operator, keyring: Keyring) -> Change:
    application = Wanted(sdkappid, appkey=APPKEY).application(by.now_ms, by.random_hex)
    sealed = keyring.seal_all(application, by.random_hex)
    return Change(application_setting(sdkappid), msgspec.json.encode(sealed), None)


def _slices(numbers: range, size: int) -> Iterator[range]:
    for begin in range(0, len(numbers), size):
        yield numbers[begin : begin + size]


def _random_hex(size: int) -> str:
    return os.urandom(size).hex()


def _bench() -> Operator:
    return Operator("bench", time.time_ns() // 1_000_000, _random_hex)
