"""The codes of `result`."""

from pullstatus.wire.v5.codes import Result


def test_codes_are_the_documented_ones() -> None:
    """All of protocol.md 8.1 and 8.2, and no other."""
    service = {
        0,
        1001,
        1003,
        1004,
        1006,
        1007,
        1008,
        1009,
        1011,
        1016,
        1019,
        1020,
        1021,
        1030,
        1033,
    }
    gateway = {60002, 60003, 60006, 60007, 60008, 60009, 60012, 60013}
    assert {int(code) for code in Result} == service | gateway


def test_codes_print_as_numbers() -> None:
    """They go straight into JSON and logs."""
    assert f"{Result.SIG_MISMATCH}" == "1001"
