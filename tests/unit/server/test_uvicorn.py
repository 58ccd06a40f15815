"""What we use of uvicorn beyond its documented face, named one by one: the bound in pyproject.toml
may be raised when this passes, and the tests of HTTP with it."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

import pullstatus
from pullstatus.server import connection, serve, uvicorn_server

REQUEST = b"POST /path?query HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"

# What we import from behind its front door: without one of these nothing here starts, and Python
# says which it is.
IMPORTED = {
    "uvicorn._types.ASGI3Application",
    "uvicorn.config.Config",
    "uvicorn.protocols.http.httptools_impl.HttpToolsProtocol",
    "uvicorn.protocols.http.httptools_impl.RequestResponseCycle",
    "uvicorn.protocols.http.httptools_impl.STATUS_LINE",
    "uvicorn.protocols.utils.is_ssl",
    "uvicorn.server.ServerState",
}
# Attributes that we read or set, and methods that we call or override.
OF_A_CONNECTION = {
    "_start_asgi_task",
    "access_log",
    "access_logger",
    "app",
    "client",
    "connection_lost",
    "connection_made",
    "cycle",
    "data_received",
    "eof_received",
    "expect_100_continue",
    "flow",
    "headers",
    "logger",
    "loop",
    "on_body",
    "on_header",
    "on_headers_complete",
    "on_message_begin",
    "on_message_complete",
    "on_response_complete",
    "parser",
    "pause_writing",
    "pipeline",
    "resume_writing",
    "scheme",
    "scope",
    "server_state",
    "transport",
    "url",
}
OF_A_REQUEST = {
    "body",
    "disconnected",
    "keep_alive",
    "message_event",
    "more_body",
    "on_response",
    "response_complete",
    "response_started",
    "run_asgi",
    "scope",
}
OF_A_SERVER = {
    "capture_signals",
    "force_exit",
    "on_tick",
    "serve",
    "server_state",
    "should_exit",
    "shutdown",
    "started",
    "startup",
}
SET_BY_INIT = {"pipeline", "server_state"}  # and by us, in a way of our own


async def _application(_scope: object, _receive: object, _send: object) -> None:
    return


def _connection() -> HttpToolsProtocol:
    """One of uvicorn's own, with a request begun."""
    config = uvicorn.Config(_application, http=HttpToolsProtocol, lifespan="off", log_config=None)
    config.load()
    made = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    transport = Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value = None
    made.connection_made(transport)
    made.data_received(REQUEST)
    return made


def moved(owner: object, names: set[str]) -> str:
    """What to say if `owner` lacks one of these."""
    gone = sorted(name for name in names if not hasattr(owner, name))
    return f"uvicorn moved: {type(owner).__name__} has no {', '.join(gone)}" if gone else ""


def test_connection_has_what_we_use_of_it() -> None:
    async def look() -> None:
        made = _connection()
        assert not moved(made, OF_A_CONNECTION)
        assert not moved(made.cycle, OF_A_REQUEST)
        assert isinstance(made.cycle, RequestResponseCycle), "uvicorn moved: the cycle"
        assert not moved(made.flow, {"drain", "resume_reading", "write_paused"})

    asyncio.run(look())


def test_connection_starts_a_request_by_the_method_that_we_override(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An older uvicorn had another one: then the fast way is off, and nobody notices."""
    started: list[tuple[object, object]] = []
    monkeypatch.setattr(
        HttpToolsProtocol,
        "_start_asgi_task",
        lambda _self, cycle, app: started.append((cycle, app)),
    )

    async def look() -> None:
        _connection()

    asyncio.run(look())
    [(cycle, app)] = started
    assert isinstance(cycle, RequestResponseCycle), "uvicorn moved: what a request is started with"
    assert callable(app)


def test_server_has_what_we_use_of_it() -> None:
    server = uvicorn.Server(uvicorn.Config(_application, log_config=None))
    assert not moved(server, OF_A_SERVER)
    assert "self.servers" in inspect.getsource(uvicorn.Server.startup), "uvicorn moved: servers"


def test_server_keeps_the_date_as_the_first_of_its_headers() -> None:
    async def tick() -> ServerState:
        config = uvicorn.Config(_application, log_config=None, server_header=False)
        config.load()
        server = uvicorn.Server(config)
        await server.on_tick(0)
        return server.server_state

    name, value = asyncio.run(tick()).default_headers[0]
    assert (name, value[-3:]) == (b"date", b"GMT"), "uvicorn moved: the date among its headers"


def test_status_lines_are_whole() -> None:
    line = httptools_impl.STATUS_LINE[414]
    assert line.startswith(b"HTTP/1.1 414 "), "uvicorn moved: STATUS_LINE"
    assert line.endswith(b"\r\n"), "uvicorn moved: STATUS_LINE"


# --- the lists are whole --------------------------------------------------------------------------


def _attributes(node: ast.AST, *owners: str) -> Iterator[str]:
    """Names behind `self.`, or whatever else is the owner."""
    for found in ast.walk(node):
        if isinstance(found, ast.Attribute) and ast.unparse(found.value) in owners:
            yield found.attr


def test_list_of_what_is_imported_is_what_the_source_imports() -> None:
    """One file knows those parts: it is the one to look at when uvicorn has moved.

    Another one asks its middleware, which `test_forwarded` compares with what that says.
    """
    package = Path(pullstatus.__file__).parent
    imported = {
        (file.name, f"{node.module}.{name.name}")
        for file in package.rglob("*.py")
        if b"from uvicorn" in file.read_bytes()
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "uvicorn"
        for name in node.names
    }
    asks = ("forwarded.py", "uvicorn.middleware.proxy_headers.ProxyHeadersMiddleware")
    assert imported == {asks, *(("connection.py", name) for name in IMPORTED)}


def _class(module: object, name: str) -> ast.ClassDef:
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    [found] = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    return found


def _ours(node: ast.ClassDef) -> set[str]:
    """What a class has of its own: its methods, what it declares, what its `__init__` sets."""
    methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
    others = {each.name for each in node.body if isinstance(each, ast.AsyncFunctionDef)}
    declared = {ast.unparse(each.target) for each in node.body if isinstance(each, ast.AnnAssign)}
    return {*methods, *others, *declared, *_attributes(methods["__init__"], "self")}


@pytest.mark.parametrize(
    ("module", "name", "base", "listed"),
    [
        (connection, "Connection", HttpToolsProtocol, OF_A_CONNECTION),
        (uvicorn_server, "UvicornServer", uvicorn.Server, OF_A_SERVER),
    ],
)
def test_list_is_what_the_source_uses(
    module: object, name: str, base: type, listed: set[str]
) -> None:
    node = _class(module, name)
    ours = _ours(node)
    overridden = {each for each in ours if hasattr(base, each) and not each.startswith("__")}
    overridden |= SET_BY_INIT & ours
    used = {*_attributes(node, "self"), *_attributes(node, "super()")} - ours | overridden
    elsewhere = set(_attributes(_class(serve, "Server"), "self._uvicorn"))
    if base is uvicorn.Server:
        used |= elsewhere - ours
    used = {each for each in used if not each.startswith("__")}
    assert used == listed


def test_list_of_a_request_is_what_the_source_uses() -> None:
    node = _class(connection, "Connection")
    assert set(_attributes(node, "cycle", "self.cycle")) == OF_A_REQUEST
