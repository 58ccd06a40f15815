"""Kannel from Debian for tests, between a small SMSC and whatever its URLs lead to.

    with Centre() as centre, Kannel(tmp_path, centre, callback) as kannel:
        kannel.send(text="hello", sid="a1")     # its receipt comes to the callback
        centre.reply("8613800000001", "10690000", "yes")    # and so does this

    test --HTTP--> smsbox --> bearerbox --SMPP--> Centre
    callback <--HTTP-- smsbox <-- bearerbox <--SMPP-- (receipts, replies)

The configuration is the one of `docs/how-to/receive-from-kannel.md`.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import socketserver
import struct
import subprocess
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from tests.harness import PATIENCE_S, ROOT
from tools.postgresql import free_port

PAGE: Final = ROOT / "docs/how-to/receive-from-kannel.md"

SUBMIT, DELIVER, RESPONSE = 0x04, 0x05, 0x80000000
RECEIPT, UCS2 = 0x04, 0x08
READY: Final = {"bearerbox": "entering mainloop", "smsbox": "Connected to bearerbox"}
INTERNATIONAL: Final = b"\x01\x01"


class Centre:
    """An SMSC that says of each SMS that it was delivered, and of those to `...9` that it was not.

    Attributes:
        answered: how many PDUs its client said it has.
    """

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._numbers = itertools.count(1)
        self._link: _Session | None = None
        self._bound = threading.Event()
        self.answered = 0
        self._server = socketserver.ThreadingTCPServer(
            ("127.0.0.1", 0), lambda *peer: _Session(self, *peer), bind_and_activate=True
        )
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def reply(self, number: str, to: str, text: str) -> None:
        """An SMS from a handset, in UCS-2 if it has to be."""
        assert self._bound.wait(PATIENCE_S), "nobody is bound"
        plain = text.isascii()
        data = text.encode("ascii" if plain else "utf-16-be")
        self._deliver(number, to, 0, 0 if plain else UCS2, data)

    def receipt(self, number: str, to: str, message_id: str) -> None:
        """What became of an SMS that was sent to a number."""
        stat = "UNDELIV" if number.endswith("9") else "DELIVRD"
        at = time.strftime("%y%m%d%H%M", time.gmtime())
        text = (
            f"id:{message_id} sub:001 dlvrd:001 submit date:{at} done date:{at}"
            f" stat:{stat} err:000 text:"
        )
        self._deliver(number, to, RECEIPT, 0, text.encode())

    def _deliver(self, number: str, to: str, esm_class: int, coding: int, data: bytes) -> None:
        assert self._link is not None
        body = (
            b"\x00"
            + INTERNATIONAL
            + number.encode()
            + b"\x00"
            + INTERNATIONAL
            + to.encode()
            + b"\x00"
            + bytes([esm_class, 0, 0, 0, 0, 0, 0, coding, 0, len(data)])
            + data
        )
        self._link.write(DELIVER, 0, next(self._numbers), body)

    def submitted(self, session: _Session, number: int, body: bytes) -> None:
        """Take an SMS: its answer leaves before its receipt."""
        _service, rest = body.split(b"\x00", 1)
        source, rest = rest[2:].split(b"\x00", 1)
        to, _rest = rest[2:].split(b"\x00", 1)
        message_id = f"{next(self._ids):010d}"
        session.write(SUBMIT | RESPONSE, 0, number, message_id.encode() + b"\x00")
        self.receipt(to.decode(), source.decode(), message_id)

    def bound(self, session: _Session) -> None:
        """What is delivered goes to this client."""
        self._link = session
        self._bound.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Session(socketserver.StreamRequestHandler):
    """One client of the centre: SMPP 3.4, as far as Kannel speaks it."""

    def __init__(self, centre: Centre, *peer: object) -> None:
        self._centre = centre
        self._writing = threading.Lock()
        super().__init__(*peer)  # type: ignore[arg-type]

    def write(self, command: int, status: int, number: int, body: bytes) -> None:
        head = struct.pack(">IIII", 16 + len(body), command, status, number)
        with self._writing, contextlib.suppress(OSError):
            self.wfile.write(head + body)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while len(head := self.rfile.read(16)) == 16:
                length, command, _status, number = struct.unpack(">IIII", head)
                body = self.rfile.read(length - 16)
                if command & RESPONSE:
                    self._centre.answered += command == DELIVER | RESPONSE
                elif command == SUBMIT:
                    self._centre.submitted(self, number, body)
                else:
                    binding = command in (1, 2, 9)
                    self.write(command | RESPONSE, 0, number, b"centre\x00" if binding else b"")
                    if binding:
                        self._centre.bound(self)


class Kannel:
    """bearerbox and smsbox, as the page configures them; they end with the `with` block."""

    def __init__(self, folder: Path, centre: Centre, callback: str) -> None:
        """Nothing runs yet.

        Args:
            callback: the address of a source: `http://HOST:PORT/in/TOKEN/kannel`.
        """
        self.folder = folder
        self._sending = free_port()
        self._callback = callback
        self._running: list[subprocess.Popen[bytes]] = []
        text = configuration()
        for written, ours in (
            ("port = 2775", f"port = {centre.port}"),
            ("admin-port = 13000", f"admin-port = {free_port()}"),
            ("smsbox-port = 13001", f"smsbox-port = {free_port()}"),
            ("sendsms-port = 13013", f"sendsms-port = {self._sending}"),
            ("http-queue-delay = 10", "http-queue-delay = 1"),
            ("/var/spool/kannel", str(folder / "spool")),
            ("https://sms.example.com/in/TOKEN/kannel", callback),
        ):
            assert written in text, written
            text = text.replace(written, ours)
        (folder / "spool").mkdir()
        self._file = folder / "kannel.conf"
        self._file.write_text(text, encoding="utf-8")

    def send(self, to: str, sid: str) -> None:
        """Send an SMS whose receipt is asked for."""
        members = {
            "username": "sender",
            "password": "secret",
            "from": "10690000",
            "to": to,
            "text": "hello",
            "dlr-mask": "31",
            "dlr-url": receipt_url(self._callback, sid),
        }
        answer = self._http.get("/cgi-bin/sendsms", params=members)
        assert answer.status_code == 202, answer.text

    def log(self) -> str:
        """What both have written."""
        return (self.folder / "kannel.log").read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{self._sending}", trust_env=False, timeout=PATIENCE_S
        )
        with (self.folder / "kannel.log").open("ab") as log:
            for box in ("bearerbox", "smsbox"):
                command = [f"/usr/sbin/{box}", "-v", "1", str(self._file)]
                started = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
                self._running.append(started)
                self._wait(READY[box])
        return self

    def _wait(self, said: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while said not in self.log():
            assert time.monotonic() < deadline, self.log()[-3000:]
            time.sleep(0.02)

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._http.close()
        for process in reversed(self._running):
            process.kill()
            process.wait()
        if error is not None:
            error.add_note(f"Kannel's log ends:\n{self.log()[-3000:]}")


def configuration() -> str:
    """The configuration that the page shows."""
    found = re.search(r"```ini title=\"kannel.conf\"\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def receipt_url(callback: str, sid: str) -> str:
    """The `dlr-url` that the page shows, for one SMS."""
    found = re.search(r"```text title=\"dlr-url\"\n(.*?)\n```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    address = found[1].replace("https://sms.example.com/in/TOKEN/kannel", callback)
    return address.replace("SID", sid)


class Between(ThreadingHTTPServer):
    """Stands between Kannel and the server: knows which calls were answered, and loses answers.

    A call that the server does not answer is cut off. Of every `LOSES`th call the first answer is
    lost, as that of a server that is killed between its commit and its answer.

    Attributes:
        calls: each call that came, and how often it has come.
        answered: those for which Kannel has its 200, after which it does not come again.
    """

    daemon_threads = True
    LOSES = 3

    def __init__(self, port: int) -> None:
        """Serves from its `with` block on. `port`: the server's."""
        super().__init__(("127.0.0.1", 0), _Call)
        self.to = port
        self.calls: Counter[str] = Counter()
        self.answered: set[str] = set()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()
        self.server_close()


class _Call(BaseHTTPRequestHandler):
    server: Between

    def do_GET(self) -> None:
        calls = self.server.calls
        calls[self.path] += 1
        loses = len(calls) % Between.LOSES == 0 and calls[self.path] == 1
        self.close_connection = True
        connection = HTTPConnection("127.0.0.1", self.server.to, timeout=PATIENCE_S)
        with contextlib.closing(connection), contextlib.suppress(OSError, HTTPException):
            connection.request("GET", self.path)
            answer = connection.getresponse()
            answer.read()
            if loses:
                return
            if answer.status == 200:
                self.server.answered.add(self.path)
            self.send_response(answer.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""
