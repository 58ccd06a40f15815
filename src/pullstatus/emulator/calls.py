"""The calls that the emulator answers: what faults strike, and the door tells."""

from __future__ import annotations

from typing import Final, Literal, get_args

from pullstatus.emulator.send import SENDMULTISMS2_PATH, SENDSMS_PATH
from pullstatus.records import Kind
from pullstatus.wire.api3.requests import action_in
from pullstatus.wire.v5.pull import PULL_PATH
from pullstatus.wire.v5.query import QUERY_PATH
from pullstatus.wire.v5.statistics import RECEIPTS_PATH, SENDS_PATH

__all__ = ["ACTION_PULLS", "CALLS", "SENDS", "Action", "Call", "action_of"]

V5Call = Literal[
    "pullstatus",
    "pullstatus4mobile",
    "pullsendstatus",
    "pullcallbackstatus",
    "sendsms",
    "sendmultisms2",
]
Action = Literal[
    "SendSms",
    "PullSmsSendStatus",
    "PullSmsReplyStatus",
    "PullSmsSendStatusByPhoneNumber",
    "PullSmsReplyStatusByPhoneNumber",
    "SendStatusStatistics",
    "CallbackStatusStatistics",
]
"""A call of API 3.0."""

Call = Literal[V5Call, Action]

SENDS: Final[dict[str, V5Call]] = {SENDSMS_PATH: "sendsms", SENDMULTISMS2_PATH: "sendmultisms2"}
"""Those of v5 that no server has, by their paths."""

CALLS: Final[dict[str, V5Call]] = {
    PULL_PATH: "pullstatus",
    QUERY_PATH: "pullstatus4mobile",
    SENDS_PATH: "pullsendstatus",
    RECEIPTS_PATH: "pullcallbackstatus",
    **SENDS,
}
"""Those of v5, by their paths."""

ACTION_PULLS: Final[dict[Call, Kind]] = {
    "PullSmsSendStatus": Kind.DELIVERY_STATUS,
    "PullSmsReplyStatus": Kind.REPLY,
}
"""Pulls of API 3.0, and what they take."""

_ACTIONS: Final[dict[str, Action]] = {name: name for name in get_args(Action)}


def action_of(named: bytes | None, query: bytes, body: bytes) -> Action | None:
    """Which call of API 3.0 a request to `/` is; None if it is none.

    Args:
        named: its X-TC-Action.
        query, body: the body names it else, if it is a form; or the query.
    """
    if named is None:
        said = map(action_in, [*body.split(b"&"), *query.split(b"&")])
        named = next((one for one in said if one is not None), b"")
    return _ACTIONS.get(named.decode("latin-1"))
