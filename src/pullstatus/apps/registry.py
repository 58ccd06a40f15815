"""The server's copy of applications and tokens, which is not what anybody is refused for.

It follows the store as that changes, and looks at it anew before a refusal:

    command -> store <- look <- refresh, twice a second
                             <- a request that would be refused

Looks are shared and have a distance, so that no number of such requests makes more than
`limits.LOOKS_PER_S_MAX` of them; a request waits for the next one, which is never far.
"""

from __future__ import annotations

import asyncio

from pullstatus import limits
from pullstatus.apps.networks import address_of, network_of
from pullstatus.apps.values import (
    APPLICATIONS,
    TOKENS,
    Application,
    Token,
    application_setting,
    key_mark,
    read_application,
    read_token,
    token_digest,
)
from pullstatus.records import Kind
from pullstatus.store import Setting, Store, While


class LiveApplication:
    """An application ready for the hot path: keys, mailboxes and networks at hand.

    Attributes:
        marks: for each key, what the store notes its last use under.
        while_set: holds as long as the application is as this knows it.
    """

    __slots__ = ("appkeys", "application", "mailboxes", "marks", "networks", "while_set")

    def __init__(self, application: Application, revision: int) -> None:
        self.application = application
        self.appkeys = tuple(key.appkey for key in application.appkeys)
        self.marks = tuple(key_mark(application.sdkappid, key) for key in application.appkeys)
        self.mailboxes = tuple(application.mailbox(kind) for kind in Kind)
        self.networks = tuple(network_of(network) for network in application.allow)
        self.while_set = While(application_setting(application.sdkappid), revision)

    def allows(self, address: str) -> bool:
        """Whether a call from this address is let in."""
        if not self.networks:
            return True
        try:
            parsed = address_of(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)


class Registry:
    """Applications by number and tokens by digest, as of the last look at the store.

    Attributes:
        used: when keys were used since `note_uses` was called, in Unix milliseconds, by their mark.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._revision = 0
        self._digests: dict[str, str] = {}
        self._next_look: asyncio.Task[None] | None = None
        self._newest_look: asyncio.Task[None] | None = None
        self._due_s = 0.0
        self.applications: dict[int, LiveApplication] = {}
        self.tokens: dict[str, Token] = {}
        self.used: dict[str, int] = {}

    async def look(self) -> None:
        """Take in whatever was changed before this was called, in a look shared with others.

        Raises:
            StoreUnavailable: the store cannot be read now.
            StoreCorrupt: a setting is not what was set.
        """
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look_when_due(self._newest_look))
            self._next_look.add_done_callback(_retrieve)
        await asyncio.shield(self._next_look)

    async def refresh(self) -> None:
        """Take in what was changed since, at once; not for use by two at a time.

        Raises:
            StoreUnavailable: the store cannot be read now.
            StoreCorrupt: a setting is not what was set.
        """
        async for setting in self._store.settings(self._revision):
            if setting.name.startswith(APPLICATIONS):
                self._set_application(setting)
            elif setting.name.startswith(TOKENS):
                self._set_token(setting)
            self._revision = setting.revision

    def token(self, secret: str) -> Token | None:
        """The token with this secret, if it is good."""
        return self.tokens.get(token_digest(secret))

    async def note_uses(self) -> None:
        """Have the store note when keys were last used; what it cannot note now stays.

        Raises:
            StoreUnavailable: the store cannot be written now.
            OutcomeUnknown: it may have been; noting it again changes nothing.
        """
        used, self.used = self.used, {}
        live = {mark for known in self.applications.values() for mark in known.marks}
        try:
            await self._store.mark({mark: used[mark] for mark in used.keys() & live})
        except BaseException:
            self.used = used | self.used
            raise

    async def _look_when_due(self, before: asyncio.Task[None] | None) -> None:
        loop = asyncio.get_running_loop()
        if before is not None:
            await asyncio.wait([before])
        while (early_s := self._due_s - loop.time()) > 0:  # noqa: ASYNC110 - timers come early
            await asyncio.sleep(early_s)
        self._due_s = loop.time() + 1 / limits.LOOKS_PER_S_MAX
        # Whoever comes from here on may know of a change that this look does not see.
        self._newest_look, self._next_look = self._next_look, None
        await self.refresh()

    def _set_application(self, setting: Setting) -> None:
        if setting.value is None:
            digits = setting.name.removeprefix(APPLICATIONS)
            if digits.isdigit():
                self.applications.pop(int(digits), None)
        else:
            application = read_application(setting.name, setting.value)
            self.applications[application.sdkappid] = LiveApplication(application, setting.revision)

    def _set_token(self, setting: Setting) -> None:
        digest = self._digests.pop(setting.name, None)
        if digest is not None:
            self.tokens.pop(digest, None)
        if setting.value is not None:
            token = read_token(setting.name, setting.value)
            self.tokens[token.digest] = token
            self._digests[setting.name] = token.digest


def _retrieve(look: asyncio.Task[None]) -> None:
    """Nobody may be left who waits for a look, or its error would be logged as forgotten."""
    if not look.cancelled():
        look.exception()
