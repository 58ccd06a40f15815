# pyright: strict
"""Legal uses of the public names, for type checkers; never run.

Each line must pass `mypy --strict` and pyright. `assert_type` says what a user's editor shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from random import Random
from typing import assert_type

from pullstatus import (
    AnswerLost,
    AnswerMalformed,
    AsyncBatches,
    AsyncClient,
    Batch,
    Batches,
    CallRefused,
    Client,
    ClientError,
    ClockSkewed,
    DeliveryStatus,
    Kind,
    NotAcknowledged,
    Page,
    PullstatusError,
    Reply,
    Statistics,
    TooFrequent,
)


def pages(client: Client, kind: Kind) -> None:
    page = client.pull(Kind.DELIVERY_STATUS, max=10)
    assert_type(page, Page[DeliveryStatus])
    assert_type(client.pull(Kind.REPLY, key="mine"), Page[Reply])
    assert_type(client.pull(kind), Page[DeliveryStatus | Reply])
    assert_type(page.waiting, int | None)
    assert_type(page.pull_id, str | None)
    assert_type(page.key, str)
    assert_type(page.records, tuple[DeliveryStatus, ...])
    either(page)


def either(page: Page[DeliveryStatus | Reply]) -> None:
    if page and len(page) == 1:
        for record in page:
            assert_type(record, DeliveryStatus | Reply)


def questions(client: Client, kind: Kind, since: datetime) -> None:
    found = client.find(Kind.DELIVERY_STATUS, "13800000000", nationcode="86", since=since)
    assert_type(found, tuple[DeliveryStatus, ...])
    assert_type(
        client.find(Kind.REPLY, "13800000000", nationcode="86", until=1.5), tuple[Reply, ...]
    )
    assert_type(
        client.find(kind, "13800000000", nationcode="86", sid="8:1"),
        tuple[DeliveryStatus | Reply, ...],
    )
    counted = client.statistics(since=since)
    assert_type(counted, Statistics)
    assert_type(counted.failed, int)
    assert_type(counted.billed, int | None)


async def awaited_questions(client: AsyncClient, since: datetime) -> None:
    found = await client.find(Kind.REPLY, "13800000000", nationcode="86", max=10)
    assert_type(found, tuple[Reply, ...])
    assert_type(await client.statistics(since=since, until=1.5), Statistics)


def records(status: DeliveryStatus, reply: Reply) -> None:
    assert_type(status.received_at, datetime | None)
    assert_type(status.delivered, bool)
    assert_type(status.sid, str)
    assert_type(status.json, bytes)
    assert_type(reply.replied_at, datetime | None)
    assert_type(reply.time, int)
    members(reply.members)


def members(found: Mapping[str, object]) -> None:
    assert_type(found["text"], object)


def batches(client: Client) -> None:
    following = client.delivery_statuses(max=50, follow=False)
    assert_type(following, Batches[DeliveryStatus])
    for batch in following:
        assert_type(batch, Batch[DeliveryStatus])
        with batch as same:
            assert_type(same, Batch[DeliveryStatus])
            for status in batch:
                assert_type(status, DeliveryStatus)
    for other in client.replies():
        assert_type(other.records, tuple[Reply, ...])
        assert_type(other.attempt, int)
        other.ack()


async def batches_with_await() -> None:
    async with AsyncClient("https://yun.tim.qq.com", 1400006666, "key", timeout_s=5) as client:
        assert_type(await client.pull(Kind.REPLY), Page[Reply])
        assert_type(client.replies(), AsyncBatches[Reply])
        async for batch in client.delivery_statuses():
            with batch:
                assert_type(batch.page, Page[DeliveryStatus])
        await client.aclose()


def errors(client: Client) -> None:
    try:
        client.pull(Kind.REPLY)
    except TooFrequent as error:
        assert_type(error.retry_after_s, float | None)
    except ClockSkewed as error:
        assert_type(error.skew_s, float | None)
    except CallRefused as error:
        assert_type(error.result, int | None)
        assert_type(error.errmsg, str)
    except AnswerMalformed as error:
        assert_type(error.content, bytes)
    except (AnswerLost, NotAcknowledged) as error:
        assert_type(error.key, str | None)
    except ClientError as error:
        assert_type(error.may_have_consumed, bool)
        assert_type(error.fix, str)
        assert_type(error.code, str)
    except PullstatusError as error:
        assert_type(error.retry_can_help, bool)


def credentials() -> None:
    client = Client("http://a", 1400006666, secret_id="AKID", secret_key="key", reader="billing")
    assert_type(client, Client)
    assert_type(
        AsyncClient("http://a", "1400006666", secret_id="AKID", secret_key="key"), AsyncClient
    )


def settings() -> None:
    with Client(
        "http://127.0.0.1:8080",
        1400006666,
        "key",
        timeout_s=10,
        attempts_max=3,
        keyed=True,
        clock=lambda: 0.0,
        sleep=lambda _s: None,
        random=Random(1),
    ) as client:
        assert_type(client.keyed, bool | None)
        assert_type(client.clock_skew_s, float | None)
