"""What a node must say of itself, and what is said to whoever has one that does not."""

from collections.abc import Iterator

import msgspec
import pytest

from pullstatus.errors import StoreFailed, StoreRefused, StoreUnavailable
from pullstatus.store.jetstream import nodes
from pullstatus.store.jetstream.bus import Bus
from pullstatus.store.jetstream.location import Login, parse_url
from pullstatus.store.jetstream.nodes import (
    START_LOOKS,
    Node,
    begins,
    check_way,
    judge,
    look,
    older,
    unnamed,
)
from tests.store.engines import cluster
from tests.store.jetstream.conftest import STREAM, until
from tools.nats import Cluster

LOCATION = parse_url("jetstream://127.0.0.1/x?monitor=a,b,c")


def said(number: int, **changes: object) -> Node:
    """What one of three good nodes says, but for some of it."""
    names = ["n0", "n1", "n2"]
    peers = [{"name": name} for name in names if name != names[number]]
    fields = {
        "server_id": f"ID{number}",
        "server_name": names[number],
        "version": "2.15.1",
        "max_payload": 1 << 20,
        "jetstream": {
            "config": {"sync_always": True},
            "meta": {"cluster_size": 3, "replicas": peers},
        },
        "cluster": {"name": "c"},
    }
    return msgspec.convert(fields | changes, Node)


GOOD = [said(0), said(1), said(2)]


def test_good_nodes_are_taken() -> None:
    assert judge(LOCATION, GOOD, start=True) == []


def test_one_of_three_may_be_away() -> None:
    [told] = judge(LOCATION, [GOOD[0], None, GOOD[2]], start=True)
    assert told == "the node at b:8222 does not answer about itself"


def test_more_may_be_away_later_but_not_at_the_start() -> None:
    assert len(judge(LOCATION, [None, None, GOOD[2]], start=False)) == 2
    assert len(judge(LOCATION, [None] * 3, start=False)) == 3
    for answers in ([None, None, GOOD[2]], [None] * 3):
        with pytest.raises(StoreRefused, match=r"b:8222.* does not answer: more than half"):
            judge(LOCATION, answers, start=True)


def test_a_node_that_is_too_busy_is_asked_again_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0

    def page(*_: object) -> bytes:
        nonlocal asked
        asked += 1
        if asked < START_LOOKS:
            raise TimeoutError
        return msgspec.json.encode(GOOD[0])

    monkeypatch.setattr(nodes, "page", page)
    [address, *_] = LOCATION.monitors
    assert look(address, START_LOOKS) == GOOD[0]
    asked = 0
    assert look(address) is None
    assert asked == 1


@pytest.mark.parametrize("version", ["2.14.6", "2.14.10", "2.15.0-RC.1", "3.0.0"])
def test_versions_from_the_bound_on_are_taken(version: str) -> None:
    judge(LOCATION, [said(number, version=version) for number in range(3)], start=True)


def test_different_versions_are_told() -> None:
    [told] = judge(LOCATION, [*GOOD[:2], said(2, version="2.14.6")], start=True)
    assert told == "nodes have the versions 2.14.6, 2.15.1: bring all to the newest one soon"


def test_nodes_of_an_older_minor_version_are_known() -> None:
    versions = ["2.14.10", "2.15.0", "2.15.1"]
    found = [said(number, version=version) for number, version in enumerate(versions)]
    assert older(found) == ["n0"]
    assert older(found[1:]) == older([]) == []


@pytest.mark.parametrize(
    ("folder", "is_warned"),
    [
        ("/var/lib/nats/jetstream", False),
        ("/temporary/nats/jetstream", False),
        ("/dev/shm/x/jetstream", True),
        ("/tmp/x/nats/jetstream", True),
    ],
)
def test_a_node_that_keeps_what_it_has_among_temporary_files_is_told(
    folder: str, is_warned: bool
) -> None:
    settings = {"sync_always": True, "store_dir": folder}
    meta = {"cluster_size": 3, "replicas": [{"name": "n0"}, {"name": "n2"}]}
    node = said(1, jetstream={"config": settings, "meta": meta})
    told = judge(LOCATION, [GOOD[0], node, GOOD[2]], start=True)
    assert [text.startswith("what n1 of the nodes have") for text in told] == [True] * is_warned


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"version": "2.14.5"}, "node n1 has version 2.14.5: 2.14.6 or newer"),
        ({"version": "2.9.10"}, "node n1 has version 2.9.10"),
        ({"version": "dev"}, "node n1 has version dev"),
        ({"jetstream": {}}, "node n1 has no JetStream: give it a block"),
        ({"jetstream": {"config": {}}}, "node n1 has sync_interval .* set sync_interval: always"),
        (
            {"jetstream": {"config": {"sync_always": True, "store_dir": "/tmp/nats/jetstream"}}},
            "node n1 has no store_dir, .* in /tmp/nats/jetstream, .* store_dir in its block",
        ),
        ({"max_payload": 1000}, "node n1 has max_payload = 1000: set it to 1048576"),
    ],
)
def test_one_that_is_not_is_refused(changes: dict[str, object], named: str, start: bool) -> None:
    with pytest.raises(StoreRefused, match=named):
        judge(LOCATION, [GOOD[0], said(1, **changes), GOOD[2]], start=start)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"cluster": {"name": "d"}}, "not of one cluster"),
        ({"jetstream": {"config": {"sync_always": True}}}, "not of one cluster"),
        ({"server_id": "ID0"}, "name each of them once"),
        ({"server_name": "n0"}, "n0, n1, n2, of which monitor .* names 2"),
    ],
)
def test_what_is_no_cluster_is_refused_at_the_start(changes: dict[str, object], named: str) -> None:
    """Later it is known only for a while, as when nodes start."""
    nodes = [GOOD[0], said(1, **changes), GOOD[2]]
    with pytest.raises(StoreRefused, match=named):
        judge(LOCATION, nodes, start=True)
    judge(LOCATION, nodes, start=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"jetstream": {}},
        {"jetstream": {"config": {"sync_always": True}}},
        {"jetstream": {"config": {"sync_always": True}, "meta": {"cluster_size": 1}}},
    ],
)
def test_a_node_that_has_just_started_does_not_know_itself(changes: dict[str, object]) -> None:
    for uptime, young in (("0s", True), ("59s", True), ("1m0s", False), ("2d3h0m5s", False)):
        assert begins(LOCATION, said(1, uptime=uptime, **changes)) is young
    assert not begins(LOCATION, said(1, uptime="0s"))


def test_a_node_alone_knows_itself_once_it_has_jetstream() -> None:
    alone = msgspec.structs.replace(LOCATION, alone=True)
    assert begins(alone, said(0, uptime="0s", jetstream={}))
    assert not begins(alone, said(0, uptime="0s", jetstream={"config": {"sync_always": False}}))


def test_all_nodes_of_a_cluster_are_named() -> None:
    two = parse_url("jetstream://127.0.0.1/x?monitor=a,b")
    with pytest.raises(StoreRefused, match=r"n0, n1, n2, of which monitor .* names 2"):
        judge(two, GOOD[:2], start=True)


def test_later_a_node_that_is_not_named_is_known_and_no_reason_to_stop() -> None:
    peers = [{"name": name} for name in ("n1", "n2", "n3")]
    settings = {"config": {"sync_always": True}, "meta": {"cluster_size": 4, "replicas": peers}}
    answers = [said(0, jetstream=settings), *GOOD[1:]]
    assert unnamed(GOOD, 0) == ()
    assert unnamed(answers, 0) == ["n3"]
    assert unnamed(answers[:2], 1) == ["n2", "n3"], "one of these is silent"
    assert unnamed(GOOD[:2], 1) == ()
    assert judge(LOCATION, answers, start=False) == []
    with pytest.raises(StoreRefused, match=r"n0, n1, n2, n3, of which monitor .* names 3"):
        judge(LOCATION, answers, start=True)


def test_one_node_is_for_tests() -> None:
    one = parse_url("jetstream://127.0.0.1/x?monitor=a")
    alone = said(0, jetstream={"config": {"sync_always": True}}, cluster={})
    with pytest.raises(StoreRefused, match=r"has 1 of the 3 nodes .* single-node-for-tests=yes"):
        judge(one, [alone], start=True)
    [told] = judge(msgspec.structs.replace(one, alone=True), [alone], start=True)
    assert "single-node-for-tests=yes" in told


def test_nodes_elsewhere_are_spoken_to_by_tls_and_as_somebody() -> None:
    far = parse_url("jetstream://127.0.0.1,n1/x?monitor=a")
    with pytest.raises(StoreRefused, match="n1:4222 is elsewhere, and there is no TLS"):
        check_way(far, Login("me", "secret"))
    safe = msgspec.structs.replace(far, tls="yes")
    with pytest.raises(StoreRefused, match="n1:4222 is elsewhere, and lets in whoever comes"):
        check_way(safe, Login())
    check_way(safe, Login("me", "secret"))
    check_way(msgspec.structs.replace(far, insecure=True), Login())
    check_way(LOCATION, Login())


# --- real nodes -----------------------------------------------------------------------------------


def test_a_real_node_that_syncs_later_is_refused() -> None:
    with Cluster(1, jetstream={"sync_interval": "2m"}) as nodes:
        location = parse_url(nodes.url("x", "single-node-for-tests=yes"))
        with pytest.raises(StoreRefused, match="node n0 has sync_interval other than always"):
            Bus(location, Login())


def test_what_is_no_node_is_refused() -> None:
    node = cluster().nodes[0]
    location = parse_url(f"jetstream://127.0.0.1/x?monitor=127.0.0.1:{node.port}")
    with pytest.raises(StoreRefused, match="is no node of NATS: monitor"):
        Bus(location, Login())


@pytest.fixture
def changed() -> Iterator[None]:
    """A node may have other settings meanwhile."""
    try:
        yield
    finally:
        node = cluster().nodes[0]
        cluster().configure(node)
        node.restart()
        cluster().heal()


def test_nodes_are_proven_again_at_every_connection(bus: Bus, changed: None) -> None:
    """The first of the two connections is with the node that is restarted."""
    cluster().heal()

    def refused() -> bool:
        try:
            bus.last(STREAM, "bus.0.c")
        except StoreFailed as error:
            assert "node n0 has sync_interval other than always" in str(error)  # noqa: PT017
            return True
        except StoreUnavailable:
            pass
        return False

    node = cluster().nodes[0]
    cluster().configure(node, sync_interval="2m")
    node.restart()
    until(refused)
    cluster().configure(node)
    node.restart()
    cluster().settle()
    assert refused()  # for good: what was acknowledged meanwhile may not be there
