"""What a server must be to be trusted with a mailbox: asked at every connect, judged here.

A failover may bring another server than the one that was proven at the start. All of it can be read
by a role without rights of an administrator. Each refusal names the setting, its value and the fix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from pullstatus.errors import StoreRefused, StoreUnavailable

VERSION_MIN: Final = 140000

QUESTION: Final = """
SELECT current_setting('server_version_num')::int,
    pg_is_in_recovery(),
    (SELECT system_identifier FROM pg_control_system()),
    CASE WHEN pg_is_in_recovery() THEN NULL
        ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END,
    current_setting('fsync'), current_setting('full_page_writes'),
    current_setting('synchronous_commit'), current_setting('data_sync_retry'),
    current_setting('zero_damaged_pages', true), current_setting('ignore_checksum_failure', true),
    current_setting('transaction_read_only'), current_setting('transaction_timeout', true),
    current_setting('synchronous_standby_names'), current_setting('data_checksums'),
    current_setting('restart_after_crash'), current_setting('max_connections')::int,
    (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()),
    inet_server_addr() IS NULL OR inet_server_addr() <<= '127.0.0.0/8'
        OR inet_server_addr() = '::1',
    (SELECT coalesce(string_agg(relname, ', ' ORDER BY relname), '') FROM pg_class
        WHERE relnamespace = to_regnamespace('pullstatus') AND relkind IN ('r', 'p')
        AND relpersistence <> 'p'),
    (SELECT array_agg(setting ORDER BY place) FROM unnest(%s::text[]) WITH ORDINALITY w(name, place)
        CROSS JOIN LATERAL (SELECT coalesce(current_setting(w.name, true), '') AS setting) s)
"""


class Known(msgspec.Struct):
    """What is known of the server from before, and grows.

    Attributes:
        system: the identifier of the cluster that the store was made in; None: not known yet.
        timeline: the newest that this process has seen.
        strayed: how many times a former primary was met.
    """

    system: int | None = None
    timeline: int = 0
    strayed: int = 0


class Found(msgspec.Struct, frozen=True):
    """What a server that is not refused says of itself.

    Attributes:
        version: as a number: 150018.
        system: the identifier of its cluster.
        timeline: a number that grows with each failover.
        warnings: sentences for the operator.
    """

    version: int
    system: int
    timeline: int
    warnings: tuple[str, ...]


def check(row: Sequence[Any] | None, settings: Mapping[str, str], known: Known) -> Found:
    """Judge what a server answered to `QUESTION`.

    Args:
        settings: those that the session was asked for.
        known: learns its timeline.

    Raises:
        StoreUnavailable: it is not the one that writes, now.
        StoreRefused: it is not safe; the text says what to change.
    """
    assert row is not None
    (version, recovers, system, timeline, fsync, full_pages, commit, retries, zeroes, ignores) = (
        row[:10]
    )
    (read_only, cut_off, standbys, checksums, restarts, connections) = row[10:16]
    (tls, near, unlogged, told) = row[16:]
    if version < VERSION_MIN:
        raise StoreRefused(
            f"PostgreSQL {version // 10000} is too old: 14 or newer is due, of which 18 is the"
            " newest that was tried"
        )
    if recovers or read_only == "on":
        raise StoreUnavailable(
            "the server is a standby, or only read: name the one that writes, or all of them, in"
            " the store's URL"
        )
    for name, value, wrong, fix in (
        ("fsync", fsync, "off", "on: a crash may lose or damage what was accepted"),
        ("full_page_writes", full_pages, "off", "on: a crash may damage what was accepted"),
        ("data_sync_retry", retries, "on", "off: a failed sync must stop the server"),
        ("zero_damaged_pages", zeroes, "on", "off: damage must not become silence"),
        ("ignore_checksum_failure", ignores, "on", "off: damage must not be read"),
    ):
        if value == wrong:
            raise StoreRefused(f"the server has {name} = {value}; set it to {fix}")
    if commit not in ("on", "remote_apply"):
        raise StoreRefused(
            f"the session has synchronous_commit = {commit}, though it asked for on: what was"
            " answered could be lost; have nothing between us and the server change it"
        )
    if lacking := [
        (name, due, value)
        for (name, due), value in zip(settings.items(), told, strict=True)
        if name != "synchronous_commit" and not _same(due, value)
    ]:
        name, due, value = lacking[0]
        commands = "; ".join(f"ALTER ROLE ... SET {name} = '{due}'" for name, due, _ in lacking)
        raise StoreRefused(
            f"the session has {name} = {value or 'nothing'}, though it asked for {due}: a"
            " connection pooler drops it; connect directly, or give the role what it lacks, with"
            f" {commands}"
        )
    if cut_off not in (None, "", "0"):
        raise StoreRefused(
            f"the session has transaction_timeout = {cut_off}: a commit that it cuts off may be"
            " here and nowhere else; ALTER ROLE ... SET transaction_timeout = 0"
        )
    if unlogged:
        raise StoreRefused(
            f"tables of the store are not logged, so that a crash empties them: {unlogged}; ALTER"
            " TABLE ... SET LOGGED"
        )
    check_system(system, known)
    number = int(timeline, 16)
    if number < known.timeline:
        known.strayed += 1
        raise StoreUnavailable(
            f"the server is on timeline {number}, behind {known.timeline}, which was served"
            " already: it is a former primary; stop it, and name the one that took its place"
        )
    known.timeline = number
    return Found(
        version,
        system,
        number,
        tuple(_warnings(standbys, checksums, restarts, connections, tls=tls, near=near)),
    )


def check_system(system: int, known: Known) -> None:
    """Refuse another cluster than the one that the store was made in.

    Raises:
        StoreRefused: it is another one.
    """
    if known.system not in (None, system):
        raise StoreRefused(
            f"the store was made in the cluster {known.system}, this one is {system}: it is a"
            " restored dump, or another store; if it is to go on here, begin a new epoch, with"
            " `pullstatus store new-epoch`"
        )


def _same(due: str, value: str) -> bool:
    """Whether a setting reads back as it was asked for, whatever unit it is told in."""
    return value in (due, _UNITS.get(due, due)) or (due == "0" and value in ("0ms", "0s"))


_UNITS: Final = {"5s": "5000ms"}


def _warnings(
    standbys: str, checksums: str, restarts: str, connections: int, *, tls: bool, near: bool
) -> list[str]:
    found = []
    if not standbys:
        found.append(
            "synchronous_standby_names is empty: what is accepted is on one server alone, and lost"
            " with its disk"
        )
    if checksums == "off":
        found.append("data checksums are off: damage of the disk is found later, or not at all")
    if not tls and not near:
        found.append(
            "the connection has no TLS: whoever is on the way can read all of it; use"
            " sslmode=verify-full"
        )
    if restarts == "on" and standbys:
        found.append(
            "restart_after_crash is on beside synchronous standbys: after a crash, what no standby"
            " has yet is seen for a moment; set it to off, and have the cluster's manager restart"
        )
    if connections < CONNECTIONS_MIN:
        found.append(
            f"max_connections is {connections}: each server takes {PROCESS_CONNECTIONS}, and"
            " commands take as many while they run"
        )
    return found


PROCESS_CONNECTIONS: Final = 4  # that commit, look, list, and say whose turn it is to follow
CONNECTIONS_MIN: Final = 20
