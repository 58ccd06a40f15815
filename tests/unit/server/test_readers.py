"""The headers of a reader: what they ask of the store, and what each mistake is told."""

from __future__ import annotations

import asyncio

import pytest

from pullstatus.errors import (
    AcknowledgementRefused,
    OutcomeUnknown,
    ReplayRefused,
    StoreUnavailable,
    TooManyReaders,
)
from pullstatus.store import InHand, Page, Reader
from tests.harness import Answer
from tests.unit.server.asgi import APP, Served

KEY, READER, ACK, TAKE = (
    "Idempotency-Key",
    "Pullstatus-Reader",
    "Pullstatus-Ack",
    "Pullstatus-Take",
)
PULL_ID = f"{APP.sdkappid}-0-7"


def pull(served: Served, *headers: tuple[str, str]) -> Answer:
    answer = asyncio.run(served.pull(*headers))
    assert answer is not None
    assert answer.http_status == 200
    return answer


@pytest.mark.parametrize(
    ("headers", "reader", "count_max"),
    [
        ([], None, 100),
        ([(READER, "billing")], Reader("billing"), 100),
        ([(READER, "A.b_c-9")], Reader("A.b_c-9"), 100),
        ([(READER, "r" * 64)], Reader("r" * 64), 100),
        ([(READER, "r"), (ACK, PULL_ID)], Reader("r", 7), 100),
        ([(ACK, PULL_ID), (READER, "r"), (TAKE, "0")], Reader("r", 7), 0),
        ([(READER, "first"), (READER, "second")], Reader("first"), 100),
    ],
)
def test_what_the_store_is_asked(
    headers: list[tuple[str, str]], reader: Reader | None, count_max: int
) -> None:
    served = Served()
    assert pull(served, *headers).json["result"] == 0
    [operation] = served.store.pulled
    assert (operation.reader, operation.count_max, operation.key) == (reader, count_max, None)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([(READER, "")], "Pullstatus-Reader is a name of 1 to 64 characters"),
        ([(READER, "r" * 65)], "Pullstatus-Reader is a name of 1 to 64 characters"),
        ([(READER, "a b")], "Pullstatus-Reader is a name of 1 to 64 characters"),
        ([(READER, "caf\xe9")], "Pullstatus-Reader is a name of 1 to 64 characters"),
        ([(READER, "a,b")], "Pullstatus-Reader is a name of 1 to 64 characters"),
        ([(READER, "r"), (KEY, "k")], "Pullstatus-Reader and Idempotency-Key do not go together"),
        ([(READER, "r"), (KEY, "")], "Idempotency-Key is 1 to 64 visible ASCII characters"),
        ([(ACK, PULL_ID)], "Pullstatus-Ack is for readers: send Pullstatus-Reader with it"),
        ([(TAKE, "0")], "Pullstatus-Take is for readers: send Pullstatus-Reader with it"),
        ([(KEY, "k"), (ACK, PULL_ID)], "Pullstatus-Ack is for readers"),
        ([(READER, "r"), (TAKE, "0")], "Pullstatus-Take goes with Pullstatus-Ack"),
        ([(READER, "r"), (ACK, PULL_ID), (TAKE, "1")], "Pullstatus-Take is 0"),
        ([(READER, "r"), (ACK, PULL_ID), (TAKE, "")], "Pullstatus-Take is 0"),
        *(
            ([(READER, "r"), (ACK, ack)], "Pullstatus-Ack is the Pullstatus-Pull-Id of a page of")
            for ack in (
                "",
                "7",
                f"{APP.sdkappid}-0",
                f"{APP.sdkappid}-0-0",
                f"{APP.sdkappid}-0--7",
                f"{APP.sdkappid}-1-7",  # replies
                f"{APP.sdkappid + 1}-0-7",  # another's
                f"{APP.sdkappid}-0-" + "9" * 14,
                f" {PULL_ID} x",
            )
        ),
    ],
)
def test_a_mistake_is_told_by_its_header_and_never_reaches_the_store(
    headers: list[tuple[str, str]], told: str
) -> None:
    served = Served()
    answer = pull(served, *headers)
    assert answer.json["result"] == 1004
    assert told in answer.json["errmsg"]
    assert not served.store.pulled
    for _, value in headers:
        assert len(value) < 3 or value not in answer.json["errmsg"]


def test_a_page_carries_its_name_and_a_repeat_how_often_it_was_given() -> None:
    served = Served()
    served.store.pull_answer = Page(7, 1, b"{}", 3)
    first = pull(served, (READER, "r"))
    assert first.header("pullstatus-pull-id") == PULL_ID
    assert first.header("pullstatus-waiting") == "3"
    assert first.header("pullstatus-reader") == "r"
    assert first.header("pullstatus-given") is None
    served.store.pull_answer = Page(7, 1, b"{}", 3, repeated=True, given=2)
    again = pull(served, (READER, "r"))
    assert again.header("pullstatus-given") == "2"
    assert again.content == first.content
    figures = asyncio.run(served.figures())
    assert figures["pullstatus_pages_given_again_total"] == 1
    assert figures['pullstatus_records_out_total{kind="delivery-statuses"}'] == 1
    assert pull(served).header("pullstatus-reader") is None


def test_names_tell_epochs_apart() -> None:
    """After a restore the same numbers are given to other records."""
    served = Served()
    served.store.epoch = 2
    served.store.pull_answer = Page(7, 1, b"{}", 3)
    for ack in (PULL_ID, f"{PULL_ID}-1", f"{PULL_ID}-3"):
        refused = pull(served, (READER, "r"), (ACK, ack))
        assert refused.result == 1004
        assert "Pullstatus-Ack is not the page in this reader's hand" in refused.json["errmsg"]
    assert not served.store.pulled
    answer = pull(served, (READER, "r"), (ACK, f"{PULL_ID}-2"))
    assert served.store.pulled[0].reader == Reader("r", 7)
    assert answer.header("pullstatus-pull-id") == f"{PULL_ID}-2"


@pytest.mark.parametrize(
    ("error", "result", "told"),
    [
        (AcknowledgementRefused("no"), 1004, "Pullstatus-Ack is not the page in this reader's"),
        (TooManyReaders("64 readers"), 1004, "64 readers"),
        (ReplayRefused("no"), 1001, "signature was used before"),
        (StoreUnavailable("damaged"), 1007, "damaged; nothing was consumed"),
    ],
)
def test_what_the_store_refuses_is_told(error: Exception, result: int, told: str) -> None:
    served = Served()
    served.store.pull_answer = error
    answer = pull(served, (READER, "r"), (ACK, PULL_ID))
    assert answer.json["result"] == result
    assert told in answer.json["errmsg"]


def test_an_unknown_outcome_of_an_acknowledgement_has_no_answer() -> None:
    served = Served()
    served.store.pull_answer = OutcomeUnknown("who knows")
    assert asyncio.run(served.pull((READER, "r"), (ACK, PULL_ID))) is None


def test_pages_in_hand_are_figures() -> None:
    served = Served(now_ms=lambda: 1_800_000_010_000)
    figures = asyncio.run(served.figures())
    assert figures["pullstatus_in_hand"] == figures["pullstatus_oldest_in_hand_seconds"] == 0
    served.store.held = InHand(3, 1_800_000_000_000)
    figures = asyncio.run(served.figures())
    assert figures["pullstatus_in_hand"] == 3
    assert figures["pullstatus_oldest_in_hand_seconds"] == 10
