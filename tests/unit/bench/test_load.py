import msgspec
import pytest

from pullstatus.cli.load import Answer, Load, LoadFailed, Measured, Request, check, encode, parse

LINE = (
    '{"seconds":5.01,"requests":1002,"answer_bytes":200400,"http_errors":0,"socket_errors":0,'
    '"p50_ms":1.5,"p99_ms":9.25,"max_ms":31.0}'
)
MEASURED = Measured(5.01, 1002, 200400, 0, 0, 1.5, 9.25, 31.0)


def test_parse_finds_the_line_among_what_wrk_prints() -> None:
    output = f"Running 5s test @ http://127.0.0.1:1\n  1 threads\n\n{LINE}\n"
    assert parse(output) == MEASURED
    assert parse(output).per_s == pytest.approx(200)


def test_parse_tells_what_wrk_said_instead() -> None:
    with pytest.raises(LoadFailed, match="unable to connect"):
        parse("", "unable to connect to 127.0.0.1:1 Connection refused\n")


def test_per_s_of_no_time_is_zero() -> None:
    assert msgspec.structs.replace(MEASURED, seconds=0.0).per_s == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"requests": 0}, "no request"),
        ({"http_errors": 1}, "1 answers were errors"),
        ({"socket_errors": 2}, "2 connections broke"),
        ({"answer_bytes": 190_000}, "190 bytes on average instead of 200"),
        ({"answer_bytes": 210_000}, "210 bytes on average instead of 200"),
    ],
)
def test_check_refuses_what_was_not_to_be_measured(change: dict[str, int], said: str) -> None:
    """An empty page, a refusal or a cut connection must never pass for a fast answer."""
    with pytest.raises(LoadFailed, match=said):
        check(msgspec.structs.replace(MEASURED, **change), answer_bytes=200)


def test_check_lets_numbers_in_answers_grow() -> None:
    check(MEASURED, answer_bytes=200)
    check(msgspec.structs.replace(MEASURED, answer_bytes=202_000), answer_bytes=200)
    check(msgspec.structs.replace(MEASURED, answer_bytes=1), answer_bytes=None)


def test_request_is_framed_as_http() -> None:
    request = Request("/ingest/1/replies", b"[1]", {"Authorization": "Bearer x"})
    assert request.encode() == (
        b"POST /ingest/1/replies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer x\r\nContent-Length: 3\r\n\r\n[1]"
    )


def test_request_without_keep_alive_says_so() -> None:
    assert b"\r\nConnection: close\r\n" in Request("/", b"", keep_alive=False).encode()


def test_encode_gives_lua_lengths_requests_and_picks_counted_from_1() -> None:
    one, two = Request("/1", b"a"), Request("/22", b"b")
    sizes = len(one.encode()), len(two.encode())
    assert encode(Load([one, two], 1, [1, 0, 1])) == (
        b"2\n%d\n%d\n%b%b\n3\n2\n1\n2\n" % (*sizes, one.encode(), two.encode())
    )


def test_encode_without_picks_takes_each_in_turn() -> None:
    assert encode(Load([Request("/1", b""), Request("/2", b"")], 1)).endswith(b"\n2\n1\n2\n")


def test_answer_knows_its_size_on_the_wire() -> None:
    wire = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx: y\r\n\r\n{}"
    answer = Answer(200, [("content-length", "2"), ("x", "y")], b"{}")
    assert answer.wire_bytes == len(wire)
