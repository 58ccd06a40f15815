"""The streams of a store are made once, finished if they were begun, and refused if not as due."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import msgspec
import pytest

from pullstatus.errors import StoreCorrupt, StoreRefused, StoreUnavailable
from pullstatus.store.jetstream import streams
from pullstatus.store.jetstream.bus import Bus
from pullstatus.store.jetstream.location import Login, parse_url
from pullstatus.store.jetstream.meta import Meta
from pullstatus.store.jetstream.streams import Streams, check, config_of
from pullstatus.store.jetstream.wire import Put
from tests.store.engines import cluster
from tests.store.jetstream.conftest import op

_numbers = itertools.count(1)


@pytest.fixture
def url() -> str:
    """Of a store that nobody has made."""
    return cluster().url(f"made_{next(_numbers)}")


@pytest.fixture
def bus(url: str) -> Iterator[Bus]:
    with Bus(parse_url(url), Login()) as bus:
        yield bus


def api(bus: Bus, what: str, request: dict[str, Any]) -> dict[str, Any]:
    """How a stream is set up, as the API of JetStream says to an operator who asks for this."""
    said = bus.begin(bus._api._said(what, request)).result()
    assert said.error is None, said
    return said.config


def name(bus: Bus) -> str:
    return bus._location.store


def test_a_store_is_made_once(url: str, bus: Bus) -> None:
    with pytest.raises(StoreRefused, match=f"no store {name(bus)} at .*: make it, with `pullstat"):
        bus.open()
    assert bus.init(2)
    meta = bus.open()
    assert (meta.format, meta.partitions, meta.epoch, meta.whole) == (1, 2, 1, True)
    assert len(meta.secret) == 32
    assert str(meta.secret) not in repr(meta)
    assert not bus.init(2)
    with pytest.raises(StoreRefused, match="has 2 partitions: their number cannot be changed"):
        bus.init(3)
    with Bus(parse_url(url), Login()) as other:
        assert other.open() == meta


def test_two_that_make_a_store_at_once_make_one(url: str) -> None:
    buses = [Bus(parse_url(url), Login()) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda bus: bus.init(2), buses))
    assert any(made)
    assert len({bus.open().secret for bus in buses}) == 1
    for bus in buses:
        bus.close()


def test_of_two_with_other_partitions_one_is_refused(url: str) -> None:
    def init(partitions: int) -> bool:
        with Bus(parse_url(url), Login()) as bus:
            try:
                bus.init(partitions)
            except StoreRefused as error:
                assert "partitions" in str(error)  # noqa: PT017
                return False
            return bus.open().partitions == partitions

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(init, [1, 2])) == 1


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_what_was_begun_is_finished(bus: Bus, calls: int) -> None:
    real, left = Streams._make, iter(range(calls))

    async def make(self: Streams, stream: str, subject: str) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        await real(self, stream, subject)

    async def cut_off() -> None:
        with mock.patch.object(Streams, "_make", make):
            try:
                await bus._streams.init(3, bytes)
            except BaseException as error:  # noqa: BLE001 it is not to end the loop
                assert isinstance(error, KeyboardInterrupt)  # noqa: PT017

    bus.begin(cut_off()).result()
    with pytest.raises(StoreRefused, match="`pullstatus store init`"):
        bus.open()
    if calls:
        with pytest.raises(StoreRefused, match="has 3 partitions"):
            bus.init(2)
    assert bus.init(3)
    assert bus.open().partitions == 3


def test_a_stream_that_is_gone_is_never_made_anew(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "GONE_S", 0.2)
    bus.init(2)
    bus.begin(bus._api._said(f"STREAM.DELETE.{name(bus)}_1", {})).result()
    for use in (bus.open, lambda: bus.init(2)):
        with pytest.raises(StoreRefused, match=f"stream {name(bus)}_1 .* is gone"):
            use()


def test_a_store_that_has_lost_its_settings_is_not_made_anew(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor told to be none."""
    monkeypatch.setattr(streams, "GONE_S", 0.2)
    bus.init(2)
    settings = f"{name(bus)}_SET"
    bus.begin(bus._api._said(f"STREAM.DELETE.{settings}", {})).result()
    for use in (bus.open, lambda: bus.init(2)):
        with pytest.raises(StoreRefused, match=f"{settings} .* lost its settings; restore"):
            use()
    assert bus.begin(bus._api.config(settings)).result() is None


@pytest.mark.parametrize("whole", [False, True])
def test_records_before_a_store_was_whole_are_what_is_left_of_another(
    bus: Bus, *, whole: bool
) -> None:
    """But not if somebody else has made it meanwhile, and put them in."""
    bus.init(2)
    stream, mine = f"{name(bus)}_1", op()
    bus.write(stream, [Put(f"{name(bus)}.1.x", mine, 0)], mine)
    real = Streams._meta
    found = bus.begin(bus._streams._meta()).result()
    assert found is not None
    begun = msgspec.structs.replace(found[0], whole=False), found[1] - whole
    left = iter([begun] * (1 if whole else 9))

    async def meta(self: Streams) -> tuple[Meta, int] | None:
        return next(left, None) or await real(self)

    with mock.patch.object(Streams, "_meta", meta):
        if whole:
            assert not bus.init(2)
        else:
            with pytest.raises(StoreRefused, match=f"{stream} holds records.* lost its settings"):
                bus.init(2)


def test_a_stream_that_was_changed_is_refused(bus: Bus) -> None:
    bus.init(1)
    stream = f"{name(bus)}_0"
    config = api(bus, f"STREAM.INFO.{stream}", {})
    for change, said in (
        ({"max_age": 10**9 * 3600}, "max_age = 3600000000000: .*; set it to 0"),
        ({"max_msgs": 10}, "max_msgs = 10: .*; set it to -1"),
        ({"discard": "old"}, 'discard = "old": .*; set it to "new"'),
        ({"compression": "s2"}, 'compression = "s2": .*; set it to "none"'),
        ({"allow_direct": False}, "allow_direct = false: .*; set it to true"),
        ({"num_replicas": 1}, "num_replicas = 1: .*; set it to 3"),
        ({"subjects": [f"{name(bus)}.0.>", "more"]}, "subjects = .*: set them to"),
    ):
        api(bus, f"STREAM.UPDATE.{stream}", config | change)
        with pytest.raises(StoreRefused, match=f"stream {stream} has {said}"):
            bus.open()
        with pytest.raises(StoreRefused, match=f"stream {stream} has {said}"):
            bus.init(1)
    api(bus, f"STREAM.UPDATE.{stream}", config)
    bus.open()


def test_room_and_place_are_the_operators(bus: Bus) -> None:
    bus.init(1)
    stream = f"{name(bus)}_0"
    config = api(bus, f"STREAM.INFO.{stream}", {})
    api(bus, f"STREAM.UPDATE.{stream}", config | {"max_bytes": 10**9, "description": "ours"})
    bus.open()


@pytest.mark.parametrize(
    "change",
    [
        {"storage": "memory"},
        {"retention": "workqueue"},
        {"max_msgs_per_subject": 1},
        {"max_msg_size": 1000},
        {"persist_mode": "async"},
        {"allow_atomic": False},
        {"no_ack": True},
        {"sealed": True},
        {"deny_delete": True},
        {"deny_purge": True},
        {"allow_rollup_hdrs": True},
        {"allow_msg_ttl": True},
        {"allow_msg_counter": True},
        {"allow_msg_schedules": True},
        {"mirror": {"name": "a"}},
        {"sources": [{"name": "a"}]},
        {"republish": {"dest": "a"}},
        {"subject_transform": {"src": "a"}},
    ],
)
def test_what_cannot_be_changed_back_is_refused_too(change: dict[str, object]) -> None:
    config = config_of("x_0", "x.0.>", 3)
    check("x_0", "x.0.>", config, alone=False)
    [setting] = change
    with pytest.raises(StoreRefused, match=f"stream x_0 has {setting} = .*: .*; set it to"):
        check("x_0", "x.0.>", config | change, alone=False)


def test_one_copy_is_for_tests() -> None:
    check("x_0", "x.0.>", config_of("x_0", "x.0.>", 1), alone=True)


@pytest.mark.parametrize("partitions", [0, -1, 257])
def test_partitions_have_bounds(bus: Bus, partitions: int) -> None:
    with pytest.raises(StoreRefused, match="1 to 256 partitions"):
        bus.init(partitions)


def test_a_later_format_is_refused(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    bus.init(1)
    monkeypatch.setattr(streams, "FORMAT", 2)
    with pytest.raises(StoreRefused, match=r"has format 1, and this version .* reads 2"):
        bus.open()


def test_what_a_store_is_has_a_checksum(bus: Bus) -> None:
    bus.init(1)
    stream, subject = f"{name(bus)}_SET", f"{name(bus)}.set.meta"
    there = bus.last(stream, subject, leader=True)
    assert there is not None
    mine = op()
    damaged = mine + there.data[16:-1] + bytes([there.data[-1] ^ 1])
    bus.write(stream, [Put(subject, damaged, there.sequence)], mine)
    with pytest.raises(StoreCorrupt, match="says of itself is damaged"):
        bus.open()


def test_a_stream_that_cannot_be_made_is_told(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pullstatus.store.jetstream.api.GIVE_UP_S", 5.0)
    monkeypatch.setattr(streams, "REPLICAS", 5)
    with pytest.raises((StoreRefused, StoreUnavailable), match=r"cannot be made: .*peers"):
        bus.init(1)
