"""How many connections there may be, in all and from one address, and who else gets in."""

from __future__ import annotations

import pytest

from pullstatus.server.crowd import Crowd, Full


def test_no_more_come_in_than_there_is_room_for() -> None:
    crowd = Crowd(4)
    seats = [crowd.enter(f"192.0.2.{n}") for n in range(5)]
    assert [seat is not None for seat in seats] == [True] * 4 + [False]
    assert (crowd.count, crowd.refused[Full.TOTAL]) == (4, 1)
    assert seats[0] is not None
    seats[0].leave()
    assert crowd.count == 3
    assert crowd.enter("192.0.2.9") is not None


def test_one_address_has_a_quarter() -> None:
    crowd = Crowd(8)
    seats = [crowd.enter("192.0.2.1") for _ in range(3)]
    assert [seat is not None for seat in seats] == [True, True, False]
    assert crowd.refused == {Full.TOTAL: 0, Full.ADDRESS: 1}
    assert crowd.enter("192.0.2.2") is not None
    assert seats[0] is not None
    seats[0].leave()
    assert crowd.enter("192.0.2.1") is not None


def test_a_proxy_speaks_for_many() -> None:
    crowd = Crowd(4, speaks_for_many=lambda address: address == "192.0.2.1")
    assert all(crowd.enter("192.0.2.1") for _ in range(4))
    assert crowd.enter("192.0.2.1") is None, "not for more than there is room for"


def test_beyond_the_bounds_there_is_a_reserve() -> None:
    crowd = Crowd(4, reserve=2)
    seats = [crowd.enter("192.0.2.1") for _ in range(4)]
    assert [seat and seat.reserved for seat in seats] == [False, True, True, None]
    assert crowd.count == 3
    assert seats[1] is not None
    seats[1].leave()
    again = crowd.enter("192.0.2.1")
    assert again is not None
    assert again.reserved
    other = crowd.enter("192.0.2.2")
    assert other is not None
    assert not other.reserved, "the reserve takes nobody else's place"


@pytest.mark.parametrize(
    ("address", "network"),
    [("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("no address", "no address")],
)
def test_a_seat_is_its_sites(address: str, network: str) -> None:
    seat = Crowd(4).enter(address)
    assert seat is not None
    assert seat.network == network
