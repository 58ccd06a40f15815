"""What the server speaks beside v5, as an OpenAPI 3.1 document: `GET /openapi.json`.

Schemas of records are made of their description (`records.MEMBERS`), bounds of `limits`, answers of
what answers. Only which statuses can come, and their titles, stand here: what is raised where is
nothing that a program could read off. Tests hold them against the calls themselves.

A listener's document has the calls that this listener answers, and no others.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from pullstatus import limits
from pullstatus.receipts.source import Answer, builtin
from pullstatus.records import MEMBERS, Kind, Member
from pullstatus.server.head import BEHIND, FULL, TOO_LARGE
from pullstatus.server.http import (
    BATCHES,
    INBOUND,
    INTERNAL_ERROR,
    NO_SUCH_ADDRESS,
    TOO_MUCH_IN_HAND,
)
from pullstatus.server.inbound import CALLBACKS
from pullstatus.server.ingest import KINDS, NDJSON, SENDS
from pullstatus.server.stall import NotReady
from pullstatus.wire.about import ABOUT_PATH, about
from pullstatus.wire.repeats import KEY

__all__ = ["CALLBACK", "GATEWAY", "INGEST", "OPENAPI_PATH", "openapi"]

OPENAPI_PATH: Final = "/openapi.json"
CALLBACK: Final = CALLBACKS + "{token}"
GATEWAY: Final = INBOUND + "{token}/{source}"
INGEST: Final = tuple(f"{BATCHES}{{sdkappid}}/{path}" for path in (*KINDS, SENDS))

Schema = dict[str, Any]
Titles = Mapping[int, tuple[str, ...]]
"""The titles of the problems of each status."""

# --- which problems can come ----------------------------------------------------------------------

ANY: Final[Titles] = {
    400: ("Bad request",),
    404: (NO_SUCH_ADDRESS,),
    414: ("Address too long",),
    431: (TOO_LARGE.title,),
    503: (FULL.title, BEHIND.title),
}
"""Of every request: its head, or its connection, is refused before any call sees it."""

LARGE_PROBLEMS: Final[Titles] = {503: (TOO_MUCH_IN_HAND,)}

METRICS_PROBLEMS: Final[Titles] = {
    500: (INTERNAL_ERROR,),
    503: ("Cannot read the store now", TOO_MUCH_IN_HAND),
}

CALLBACK_PROBLEMS: Final[Titles] = {
    401: ("Unknown token",),
    403: ("Token without application", "Token of another application"),
    413: ("Body too large",),
    500: (INTERNAL_ERROR,),
    503: ("Cannot store now",),
}
GATEWAY_PROBLEMS: Final[Titles] = {
    401: ("Unknown token", "Wrong signature"),
    403: ("Token of another application",),
    413: ("Body too large",),
    500: (INTERNAL_ERROR,),
    503: ("Cannot store now",),
}
INGEST_PROBLEMS: Final[Titles] = {
    400: ("Invalid body", "Invalid record", "Invalid Idempotency-Key"),
    401: ("Token missing", "Unknown token"),
    403: ("Token of another application",),
    404: ("Unknown application", NO_SUCH_ADDRESS),
    413: ("Body too large",),
    415: ("Unsupported Content-Type", "Unsupported Content-Encoding"),
    422: ("Idempotency-Key reused",),
    500: (INTERNAL_ERROR,),
    503: ("Cannot store now",),
}


# --- the document ---------------------------------------------------------------------------------


@functools.cache
def openapi(version: str, paths: frozenset[str]) -> bytes:
    """The document of a listener that answers `paths`, and this one: JSON, the same each time."""
    calls: dict[str, Callable[[], Schema]] = {
        **CALLS,
        ABOUT_PATH: functools.partial(_about, version),
    }
    served = {path: call() for path, call in calls.items() if path in paths}
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "pullstatus",
            "version": version,
            "summary": "A durable mailbox for SMS delivery statuses and replies",
            "description": (
                "Gateways and platforms put records in; what is accepted is on disk. Applications"
                " take them out by the v5 call or by API 3.0, a GET or POST to `/` that names an"
                " action; neither is part of this document. HEAD is answered as GET, without a"
                " body. Another method that is not described here is answered by 405 and `Allow`."
            ),
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "paths": served | {OPENAPI_PATH: _openapi()},
        "components": {
            "schemas": {
                **{_NAMES[kind.path]: _record(kind) for kind in Kind},
                _NAMES[SENDS]: _SENDS,
                "Problem": _PROBLEM,
                "CallbackProblem": _CALLBACK_PROBLEM,
            },
            "headers": {"Pullstatus-Request-Id": _REQUEST_ID, "Retry-After": _RETRY_AFTER},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "made with `pullstatus token create NAME`",
                }
            },
        },
    }
    return msgspec.json.encode(document)


# --- records --------------------------------------------------------------------------------------

_NAMES: Final = {"delivery-statuses": "DeliveryStatus", "replies": "Reply", SENDS: "Sends"}
"""Of what is put in, by its path."""
_MARKS: Final = re.compile(r" \((?:[A-Z]|[0-9.]+|section [0-9]+)\)")
"""What a member's text says of the protocol's document, where it is read otherwise."""


def _record(kind: Kind) -> Schema:
    members = MEMBERS[kind]
    return {
        "type": "object",
        "description": (
            f"A {kind.label}, of at most {limits.RECORD_BYTES_MAX} bytes as stored. Up to"
            f" {limits.UNKNOWN_MEMBERS_MAX} members that are not described are kept as they are."
        ),
        "properties": {member.name: _member(member) for member in members},
        "required": [member.name for member in members if member.required],
        "additionalProperties": True,
    }


def _member(member: Member) -> Schema:
    # A shape says more than the bounds, which are those of the usual.
    found: Schema = (
        {"type": "string", "pattern": f"^{member.shape.pattern}$"}
        if member.shape
        else msgspec.json.schema(member.row)
    )
    if not member.required:
        found["type"] = [found["type"], "null"]
    return found | {"description": _MARKS.sub("", member.text)}


_HOUR: Final[Schema] = {
    "type": "integer",
    "minimum": 1970_01_01_00,
    "maximum": 9999_12_31_23,
    "description": (
        "`yyyymmddhh` in UTC+8: an hour of the calendar, not yet to come, of the last"
        f" {limits.TALLIES_DAYS} days"
    ),
}


def _sent(description: str) -> Schema:
    most = limits.SENDS_COUNT_MAX
    return {"type": "integer", "minimum": 0, "maximum": most, "description": description}


_ID: Final[Schema] = {
    "type": ["string", "integer"],
    "minLength": 1,
    "maxLength": limits.GATEWAY_ID_CHARS_MAX,
    "minimum": 0,
    "description": "by which a gateway knows it; a number is taken for its digits",
}
_EXT: Final[Schema] = {
    "type": ["string", "null"],
    "maxLength": limits.EXT_CHARS_MAX,
    "description": "the sender's session text",
}


def _name() -> Schema:
    """What an item is that registers a name, whatever it counts."""
    described = {member.name: member for member in MEMBERS[Kind.DELIVERY_STATUS]}
    told = {name: _member(described[name]) for name in ("sid", "nationcode", "mobile")}
    ids = {"type": "array", "items": _ID, "uniqueItems": True}
    parts = {**ids, "minItems": 1, "maxItems": limits.MESSAGE_PARTS_MAX}
    return {
        "properties": {**told, "ext": _EXT, "id": _ID, "ids": parts},
        "required": ["sid"],
        "not": {"anyOf": [{"required": ["request"]}, {"required": ["id", "ids"]}]},
        "dependentRequired": {"nationcode": ["mobile"], "mobile": ["nationcode"]},
    }


_IS_NAMED: Final[Schema] = {"anyOf": [{"required": ["id"]}, {"required": ["ids"]}]}
_IS_COUNTED: Final[Schema] = {
    "anyOf": [{"required": [name]} for name in ("hour", "success", "bill_number", "result", "fee")]
}
_SENDS: Final[Schema] = {
    "description": (
        "What was sent in an hour, or one send, which may have the id that a gateway knows it by."
        " Members beside these are passed over."
    ),
    "if": _IS_NAMED,
    "then": _name(),
    "oneOf": [
        {
            "type": "object",
            "properties": {
                "hour": _HOUR,
                "request": _sent("SMS that were asked for, one for each number"),
                "success": _sent("of these, those that were taken; not more than `request`"),
                "bill_number": _sent("the parts that these are billed as"),
            },
            "required": ["hour", "request", "success", "bill_number"],
            "not": {"required": ["result"]},
        },
        {
            "type": "object",
            "properties": {
                "hour": _HOUR,
                "result": {"type": "integer", "description": "as the send call answered it"},
                "fee": _sent("the parts that it is billed as; needed where `result` is 0"),
            },
            "required": ["hour", "result", "fee"],
            "not": {"required": ["request"]},
        },
        {"type": "object", **_IS_NAMED, "not": _IS_COUNTED},
    ],
}


def _ref(name: str, of: str = "schemas") -> Schema:
    return {"$ref": f"#/components/{of}/{name}"}


# --- answers --------------------------------------------------------------------------------------

_REQUEST_ID: Final[Schema] = {
    "description": "the request's name in the server's log",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}
_RETRY_AFTER: Final[Schema] = {
    "description": "seconds to wait before the same is sent again",
    "schema": {"type": "string", "pattern": "^[0-9]+$"},
}
_CHALLENGE: Final[Schema] = {"required": True, "schema": {"const": "Bearer"}}
_PROBLEM: Final[Schema] = {
    "description": "An error as RFC 9457 says it: `title` names the kind, `detail` what to do.",
    "type": "object",
    "properties": {
        "type": {"const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "index": {
            "type": "integer",
            "minimum": 0,
            "description": "the place of the record at fault in its batch, counted from 0",
        },
    },
    "required": ["type", "title", "status", "detail"],
}
_CALLBACK_PROBLEM: Final[Schema] = {
    "description": "A problem with what senders of callbacks look for beside.",
    "allOf": [_ref("Problem")],
    "properties": {"result": {"const": 1}, "errmsg": {"type": "string"}},
    "required": ["result", "errmsg"],
}


def _cached(max_age_s: int) -> Schema:
    return {"required": True, "schema": {"const": f"public, max-age={max_age_s}"}}


def _of(media_type: str, schema: Schema, description: str, **headers: Schema) -> Schema:
    found: Schema = {"description": description, "content": {media_type: {"schema": schema}}}
    return found | ({"headers": {_title(name): of for name, of in headers.items()}})


def _title(name: str) -> str:
    return name.replace("_", "-").title()


def _exactly(answer: object) -> Schema:
    """The schema of an object of which every member is known."""
    assert isinstance(answer, dict)
    members = {name: {"const": value} for name, value in answer.items()}
    return {"type": "object", "properties": members, "required": [*members]}


def _problems(own: Titles, schema: str = "Problem", challenges: bool = False) -> Schema:  # noqa: FBT001, FBT002 - of one caller
    """The answers of a call whose problems are `own`, with those that any request may get."""
    found: Schema = {}
    for status in sorted({*own, *ANY}):
        titles = (*own.get(status, ()), *ANY.get(status, ()))
        bodies = [_ref(schema)] if status in own else []
        if status in ANY and schema != "Problem":
            bodies.append(_ref("Problem"))
        body = {"anyOf": bodies} if len(bodies) > 1 else (bodies or [_ref("Problem")])[0]
        told = {"status": {"const": status}, "title": {"enum": [*dict.fromkeys(titles)]}}
        headers = {"pullstatus_request_id": _ref("Pullstatus-Request-Id", "headers")}
        if status == 503:
            headers["retry_after"] = _ref("Retry-After", "headers")
        if status == 401 and challenges:
            headers["www_authenticate"] = _CHALLENGE
        found[str(status)] = _of(
            "application/problem+json",
            {"allOf": [body, {"properties": told}]},
            ", or ".join(dict.fromkeys(titles)),
            **headers,
        )
    return found


# --- calls ----------------------------------------------------------------------------------------


def _get(name: str, summary: str, answers: Schema, problems: Titles | None = None) -> Schema:
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "security": [],
            "responses": _joined(answers, _problems(problems or {})),
        }
    }


def _joined(answers: Schema, problems: Schema) -> Schema:
    """Both, where one status may have either with a media type of its own."""
    joined = {**problems, **answers}
    for status in {*answers} & {*problems}:
        content = {**answers[status]["content"], **problems[status]["content"]}
        joined[status] = {**answers[status], "content": content}
    return joined


def _about(version: str) -> Schema:
    said: dict[str, Any] = msgspec.json.decode(about(version))
    schema = _exactly(said)
    schema["properties"]["features"] = {"type": "array", "items": {"enum": said["features"]}}
    cached = _cached(limits.ABOUT_CACHED_S)
    answer = _of("application/json", schema, "who this is", cache_control=cached)
    return _get("about", "What the server can do", {"200": answer})


def _openapi() -> Schema:
    cached = _cached(limits.ABOUT_CACHED_S)
    answer = _of(
        "application/json", {"type": "object"}, "an OpenAPI 3.1 document", cache_control=cached
    )
    return _get("openapi", "This document", {"200": answer}, LARGE_PROBLEMS)


def _healthz() -> Schema:
    answer = _of("application/json", _exactly({"status": "ok"}), "it lives")
    return _get("healthz", "Whether the process lives", {"200": answer})


def _readyz() -> Schema:
    not_now = _exactly({"status": "not ready"})
    not_now["properties"]["reason"] = {"enum": [*NotReady]}
    not_now["required"].append("reason")
    answers = {
        "200": _of("application/json", _exactly({"status": "ready"}), "it does"),
        "503": _of("application/json", not_now, "not now"),
    }
    return _get("readyz", "Whether the server takes work", answers)


def _metrics() -> Schema:
    answer = _of("text/plain", {"type": "string"}, "the figures, in the text format of Prometheus")
    return _get("metrics", "The figures", {"200": answer}, METRICS_PROBLEMS)


_NO_STORE: Final[Schema] = {"required": True, "schema": {"const": "no-store"}}


def _accepted(answer: Schema) -> Schema:
    request_id = _REQUEST_ID | {"required": False}
    return _of(
        "application/json",
        answer,
        "stored: on disk before this answer leaves",
        cache_control=_NO_STORE,
        pullstatus_request_id=request_id,
    )


def _callback() -> Schema:
    source = builtin()["tencent"]
    body = {
        "description": (
            "Delivery statuses in an array, also for one, or one reply in none. What can be read is"
            " stored, and the rest is parked as it came: nothing is refused for what it says."
            " Of Content-Type only a charset counts: where it names one, the body is decoded by"
            " that."
        ),
        "anyOf": [
            {"type": "array", "items": _ref("DeliveryStatus")},
            _ref("Reply"),
            {"description": "whatever else comes"},
        ],
    }
    return {
        method.lower(): {
            "operationId": "callback",
            "summary": "A platform puts the body of one of Tencent's callbacks in",
            "security": [],
            "parameters": [_token(_OF_APPLICATION)],
            "requestBody": {"content": {"application/json": {"schema": body}}},
            "responses": {
                "200": _accepted(_exactly(msgspec.json.decode(source.answer.body))),
                **_problems(CALLBACK_PROBLEMS, "CallbackProblem"),
            },
        }
        for method in source.methods
    }


_OF_APPLICATION: Final = (
    "the secret of a token with an application, made with `pullstatus token create NAME"
    " --sdkappid N`"
)


def _token(which: str) -> Schema:
    return {
        "name": "token",
        "in": "path",
        "required": True,
        "description": f"{which}. It proves who sends, which OpenAPI has no scheme for in a path",
        "schema": {"type": "string", "format": "password", "minLength": 1, "pattern": "^[^/]+$"},
    }


def _gateway() -> Schema:
    source = {
        "name": "source",
        "in": "path",
        "required": True,
        "description": (
            f"whose form it is in: {', '.join(builtin())}, or an operator's own. What comes under"
            " another name is parked"
        ),
        "schema": {"type": "string", "minLength": 1, "pattern": "^[^/]+$"},
    }
    taken = {
        "description": (
            "durable: on disk before this answer leaves. Status, type and body are what its sender"
            " takes for success"
        ),
        "headers": {"Cache-Control": _NO_STORE},
    }
    statuses = {answer.status for answer in (Answer(), *(row.answer for row in builtin().values()))}
    body = {
        "description": "whatever comes: what can be read is stored, the rest parked as it came",
        "content": {"application/json": {"schema": {}}, "text/plain": {"schema": {}}},
    }
    return {
        method: {
            "operationId": f"in_{method}",
            "summary": "A gateway puts its own callback in",
            "security": [],
            "parameters": [_token("the secret of a token"), source],
            **({"requestBody": body} if method == "post" else {}),
            "responses": {
                **{str(status): taken for status in sorted(statuses)},
                **_problems(GATEWAY_PROBLEMS),
            },
        }
        for method in ("get", "post")
    }


def _ingest(path: str) -> Schema:
    batch = {
        "type": "array",
        "items": _ref(_NAMES[path]),
        "minItems": 1,
        "maxItems": limits.INGEST_RECORDS_MAX,
    }
    lines = {"type": "string", "description": "one record a line, as in the array"}
    accepted = {
        "type": "object",
        "properties": {
            "accepted": {"type": "integer", "minimum": 1, "maximum": limits.INGEST_RECORDS_MAX}
        },
        "required": ["accepted"],
    }
    return {
        "post": {
            "operationId": f"ingest_{path.replace('-', '_')}",
            "summary": _SUMMARIES[path],
            "security": [{"token": []}],
            "parameters": [_SDKAPPID, _IDEMPOTENCY_KEY],
            "requestBody": {
                "required": True,
                "description": f"at most {limits.INGEST_BODY_BYTES_MAX} bytes",
                "content": {
                    media_type: {"schema": lines if ndjson else batch}
                    for media_type, ndjson in NDJSON.items()
                },
            },
            "responses": {
                "200": _accepted(accepted),
                **_problems(INGEST_PROBLEMS, challenges=True),
            },
        }
    }


_SUMMARIES: Final = {
    "delivery-statuses": "A gateway puts delivery statuses in, all of them or none",
    "replies": "A gateway puts replies in, all of them or none",
    SENDS: "Whoever sends reports what was sent, to be counted, all of it or nothing",
}
_SDKAPPID: Final[Schema] = {
    "name": "sdkappid",
    "in": "path",
    "required": True,
    "description": "the application that the records are for",
    "schema": {"type": "integer", "minimum": 1, "maximum": limits.SDKAPPID_MAX},
}
_IDEMPOTENCY_KEY: Final[Schema] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": (
        f"the same batch with the same key is stored once within {limits.INGEST_REPEAT_S // 3600}"
        " hours"
    ),
    "schema": {"type": "string", "pattern": f"^{KEY.pattern}$"},
}

CALLS: Final[Mapping[str, Callable[[], Schema]]] = {
    **{path: functools.partial(_ingest, path.rpartition("/")[2]) for path in INGEST},
    CALLBACK: _callback,
    GATEWAY: _gateway,
    "/healthz": _healthz,
    "/readyz": _readyz,
    "/metrics": _metrics,
}
"""By path; a listener's document has those that it answers."""
