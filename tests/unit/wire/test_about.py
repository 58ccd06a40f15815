"""What a service says about itself."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.wire.about import Feature, about, read_features


def test_ours_is_small_and_read_again() -> None:
    said = about("1.2.3")
    assert len(said) < 200
    assert json.loads(said) == {
        "name": "pullstatus",
        "version": "1.2.3",
        "features": ["idempotency-key", "reader", "wait"],
        "pull": "/v5/tlssmssvr/pullstatus",
        "metrics": "/metrics",
    }
    assert read_features(said) == set(Feature)


def test_features_of_later_versions_are_taken_as_they_are() -> None:
    said = {"name": "pullstatus", "version": 7, "features": ["idempotency-key", "new"], "more": {}}
    assert read_features(json.dumps(said).encode()) == {Feature.IDEMPOTENCY_KEY, "new"}


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"<html>pullstatus idempotency-key</html>",
        b"[]",
        b"null",
        b'"pullstatus"',
        b'{"result":1004,"errmsg":"no"}',
        b'{"name":"another","features":["idempotency-key"]}',
        b'{"features":["idempotency-key"]}',
        b'{"name":"pullstatus"}',
        b'{"name":"pullstatus","features":null}',
        b'{"name":"pullstatus","features":{"idempotency-key":true}}',
        b'{"name":"pullstatus","features":[1]}',
        b'{"name":"pullstatus","features":["idempotency-key"]',
        b"[" * 100_000,
        b"\xff\xfe{\0",
        b'{"name":"\xff"}',
    ],
)
def test_whatever_somebody_else_says_is_nothing(said: bytes) -> None:
    assert read_features(said) == set()


@given(st.binary())
def test_no_answer_is_an_error(said: bytes) -> None:
    assert read_features(said) == set()
