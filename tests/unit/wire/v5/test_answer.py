"""The v5 answer to the byte."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.records import DeliveryStatus, Kind, Reply, encode_all
from pullstatus.wire.v5.answer import CONTENT_TYPE, failure, success
from pullstatus.wire.v5.codes import Result

CORPUS = Path(__file__).parents[3] / "corpus" / "v5"


def test_content_type_has_no_charset() -> None:
    assert CONTENT_TYPE == b"application/json"


@pytest.mark.parametrize("kind", Kind)
def test_empty_queue_is_a_success_with_an_array(kind: Kind) -> None:
    """count and data are there even when there is nothing: old clients read them."""
    expected = b'{"result":0,"errmsg":"ok","type":%d,"count":0,"data":[]}' % kind
    assert success(kind, 0, b"") == expected


def test_success_is_the_documented_answer() -> None:
    """Member order and every byte of the example in protocol.md 5."""
    expected = (CORPUS / "pull_answer.json").read_bytes()
    status = DeliveryStatus(**json.loads(expected)["data"][0])
    [entry] = encode_all([status])
    assert success(Kind.DELIVERY_STATUS, 1, entry) == expected


def test_failure_is_the_documented_answer() -> None:
    """Only result and errmsg."""
    expected = (CORPUS / "pull_refusal.json").read_bytes()
    assert failure(Result.SIG_MISMATCH, "sig check failed") == expected
    assert failure(1001, "sig check failed") == expected


@given(st.text(st.characters()), st.sampled_from(Result))
def test_failure_is_ascii_json_whatever_the_text(errmsg: str, result: Result) -> None:
    """errmsg is always a string, even if a text came with half a surrogate pair."""
    data = failure(result, errmsg)
    assert data.isascii()
    read = json.loads(data)
    assert list(read) == ["result", "errmsg"]
    assert read["result"] == result
    assert read["errmsg"] == errmsg.encode("utf-8", "replace").decode()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=5))
def test_success_counts_what_it_holds(texts: list[str]) -> None:
    """count == len(data), no null anywhere, every text as it was written."""
    replies = [Reply("86", "13800000000", text, "", 1457336869) for text in texts]
    data = success(Kind.REPLY, len(replies), b",".join(encode_all(replies)))
    assert data.isascii()
    assert b"null" not in data.replace(b'"null"', b"") or "null" in "".join(texts)
    read = json.loads(data)
    assert list(read) == ["result", "errmsg", "type", "count", "data"]
    assert (read["result"], read["errmsg"], read["type"]) == (0, "ok", 1)
    assert read["count"] == len(read["data"]) == len(texts)
    assert [reply["text"] for reply in read["data"]] == texts
