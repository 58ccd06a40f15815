"""The applications of a scenario, the secret key pair that reads them all, and what they sent.

They are made anew each time the scenario begins, under the same numbers and keys: whoever has a
number next sees nothing of what was counted, found or handed out before. Their sends are reported,
so that they can be asked for: from the beginning, when there are none yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence

from pullstatus import apps
from pullstatus.apps import Keyring, LiveApplication, Operator, Registry, Wanted
from pullstatus.clock import wall_ms
from pullstatus.emulator.scenario import Scenario
from pullstatus.emulator.send import Detail
from pullstatus.errors import SettingChanged
from pullstatus.mailbox.statistics import count_sends
from pullstatus.receipts.sends import Sends, Sent
from pullstatus.records.hours import hour_of
from pullstatus.store import Store, Tickets


class Applications:
    """Those of one emulator."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        keyring: Keyring,
        scenario: Scenario,
    ) -> None:
        """None is made yet."""
        self._store = store
        self._registry = registry
        self._tickets = Tickets(secrets.token_bytes)
        self._keyring = keyring
        self._scenario = scenario
        self._made = False

    async def renew(self) -> None:
        """Make them; those that were before are gone, and what waited for them."""
        store, scenario = self._store, self._scenario
        by = Operator("emulator", wall_ms(), secrets.token_hex)
        numbers = [one.sdkappid for one in scenario.all_applications]
        if self._made:
            for sdkappid in numbers:
                await apps.delete_application(store, sdkappid, by=by, erase=True)
        wanted = [
            # No limits by time: a test would depend on the clock.
            Wanted(one.sdkappid, appkey=one.appkey, query_rate=0, statistics_rate=0)
            for one in scenario.all_applications
        ]
        await apps.import_applications(
            store,
            [one.application(by.now_ms, by.random_hex) for one in wanted],
            by=by,
            keyring=self._keyring,
        )
        pair = scenario.secret
        if self._made:
            await apps.change_pair(store, pair.id, by=by, sdkappids=numbers)
        else:
            await apps.create_pair(
                store,
                numbers,
                by=by,
                keyring=self._keyring,
                unsigned_payload=pair.unsigned_payload,
                v1=pair.v1,
                secret_id=pair.id,
                secret_key=pair.key,
            )
        self._made = True
        await self._registry.look()
        lives = [self._registry.applications[sdkappid] for sdkappid in numbers]
        await asyncio.gather(*(self.count(live, (), by.now_ms) for live in lives))

    async def count(self, live: LiveApplication, details: Sequence[Detail], now_ms: int) -> None:
        """Report sends, accepted or not."""
        accepted = [detail for detail in details if not detail.result]
        sent = Sent(len(details), len(accepted), sum(detail.fee for detail in accepted))
        with contextlib.suppress(SettingChanged):  # it is made anew now, and nothing of it counts
            await count_sends(
                self._store,
                live,
                Sends(len(details), {hour_of(now_ms): sent}),
                sender="emulator",
                now_ms=now_ms,
                ticket=self._tickets(),
            )
