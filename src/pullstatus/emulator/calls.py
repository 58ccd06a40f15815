"""The calls that the emulator answers: what faults strike, and the door tells."""

from __future__ import annotations

import re
from typing import Final, Literal, get_args

from pullstatus.emulator.send import SENDMULTISMS2_PATH, SENDSMS_PATH
from pullstatus.records import Kind
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
_ACTION: Final = re.compile(rb"(?:^|&)Action=([A-Za-z]+)(?:&|$)")


def action_of(named: bytes | None, query: bytes, body: bytes) -> Action | None:
    """Which call of API 3.0 a request to `/` is; None if it is none.

    Args:
        named: its X-TC-Action.
        query, body: one of which names it else.
    """
    if named is None:
        found = _ACTION.search(query) or _ACTION.search(body)
        named = b"" if found is None else found[1]
    return _ACTIONS.get(named.decode("latin-1"))
