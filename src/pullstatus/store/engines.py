"""The engines there are, by the scheme of their URL. Each is imported when a URL asks for it.

To add one, add a row to `ENGINES`. Its module need not be importable where nobody names it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast, runtime_checkable

from pullstatus.errors import InvalidSetting
from pullstatus.store.values import Accept, Act, AuditReport, Progress, ProveSetting, Share

if TYPE_CHECKING:  # which imports this table
    from pullstatus.store import Store
    from pullstatus.store.transfer import End


class EngineModule(Protocol):
    """What the module of every engine offers; the functions of `pullstatus.store` lead here."""

    def check(self, url: str) -> None:
        """Refuse a URL that this engine cannot read; touches nothing.

        Raises:
            InvalidSetting: saying what its URLs look like.
        """
        ...

    def cautions(self, url: str) -> list[str]:
        """See `store_cautions`."""
        ...

    def file(self, url: str) -> Path | None:
        """See `store_file`."""
        ...

    async def open(
        self,
        url: str,
        *,
        create: bool,
        server: bool,
        reserve_bytes: int,
        on_failure: Callable[[BaseException], None] | None,
    ) -> Store:
        """See `open_store`."""
        ...

    async def rewrite(self, url: str, *, serving: bool) -> None:
        """See `rewrite_store`."""
        ...

    async def audit(
        self, url: str, progress: Progress, *, prove_setting: ProveSetting
    ) -> AuditReport:
        """See `audit_store`."""
        ...


@runtime_checkable
class CopyingModule(Protocol):
    """What an engine's module offers beside if it makes copies of its stores itself."""

    async def backup(self, url: str, file: Path, progress: Progress) -> None:
        """See `backup_store`."""
        ...

    async def restore(
        self,
        url: str,
        file: Path,
        *,
        act: Act,
        progress: Progress,
        prove_setting: ProveSetting,
        accept: Accept,
    ) -> int:
        """See `restore_store`."""
        ...


@runtime_checkable
class SharingModule(Protocol):
    """What an engine's module offers beside if only one process may open its stores to serve."""

    async def open_shared(
        self,
        url: str,
        *,
        reserve_bytes: int,
        on_failure: Callable[[BaseException], None] | None,
    ) -> Store:
        """See `open_store`: as a server, to be shared."""
        ...

    def share(self, store: Store, sharers: int) -> Share:
        """See `share_store`."""
        ...

    async def join(
        self, url: str, share: Share, *, on_failure: Callable[[BaseException], None] | None
    ) -> Store:
        """See `join_store`."""
        ...


@runtime_checkable
class ReadingModule(Protocol):
    """What an engine's module offers beside if opening a store in the usual way may change it."""

    async def open_to_read(self, url: str) -> Store:
        """See `read_store`."""
        ...


@runtime_checkable
class MovingModule(Protocol):
    """What an engine's module offers beside if its stores can be moved, and others become them."""

    async def open_end(self, url: str, *, target: bool) -> End:
        """Open one end of a migration, whatever it says of one.

        Args:
            target: what is to be filled. A file is made if there is none, and nobody else's until
                closed.

        Raises:
            StoreRefused: it is not safe to open, or, as a target, is in use, or not there.
        """
        ...

    async def holds_store(self, url: str) -> bool:
        """Whether there is a store.

        Raises:
            StoreRefused: where it would be cannot be looked at.
        """
        ...


@runtime_checkable
class DatabaseModule(Protocol):
    """What an engine's module offers beside if others look after where its stores lie."""

    async def init(self, url: str, *, partitions: int | None) -> bool:
        """See `init_store`."""
        ...

    async def upgrade(self, url: str, *, post: bool) -> list[int]:
        """See `upgrade_store`."""
        ...

    async def begin_epoch(self, url: str, act: Act) -> int:
        """See `begin_epoch`."""
        ...


class Row(NamedTuple):
    """An engine.

    Attributes:
        module: an `EngineModule`, perhaps a `CopyingModule` or a `DatabaseModule`, by its name.
        form: what its URLs look like.
        copies: how its stores are backed up and restored, if the module does not.
    """

    module: str
    form: str
    copies: str = ""


ENGINES: Final[Mapping[str, Row]] = {
    "sqlite": Row("pullstatus.store.sqlite", "sqlite:///FILE"),
    "postgresql": Row(
        "pullstatus.store.postgresql",
        "postgresql://HOST/DATABASE",
        "take pg_basebackup or pgBackRest, and archive the log, or pg_dump; after a restore run"
        " `pullstatus store new-epoch`",
    ),
    "jetstream": Row(
        "pullstatus.store.jetstream",
        "jetstream://HOST,HOST,HOST/NAME?monitor=HOST,HOST,HOST",
    ),
}


def engine_of(url: str) -> EngineModule:
    """The module of the engine that a URL names.

    Raises:
        InvalidSetting: no engine has such a URL.
    """
    return cast("EngineModule", importlib.import_module(_row(url).module))


def copying_engine_of(url: str) -> CopyingModule:
    """The module of the engine that a URL names, which can back up and restore.

    Raises:
        InvalidSetting: no engine has such a URL, or that one does not; what to use instead.
    """
    row = _row(url)
    module = importlib.import_module(row.module)
    if not isinstance(module, CopyingModule):
        raise InvalidSetting(f"a store at {row.form} is not copied by pullstatus: {row.copies}")
    return module


def copies_itself(url: str) -> bool:
    """Whether stores of the engine that a URL names are backed up by `pullstatus backup`.

    Raises:
        InvalidSetting: no engine has such a URL.
    """
    return not _row(url).copies


def sharing_engine_of(url: str) -> SharingModule | None:
    """The module of the engine that a URL names, if one of its stores has one server process only.

    Raises:
        InvalidSetting: no engine has such a URL.
    """
    module = importlib.import_module(_row(url).module)
    return module if isinstance(module, SharingModule) else None


def reading_engine_of(url: str) -> ReadingModule | None:
    """The module of the engine that a URL names, if whoever only reads says so.

    Raises:
        InvalidSetting: no engine has such a URL.
    """
    module = importlib.import_module(_row(url).module)
    return module if isinstance(module, ReadingModule) else None


def moving_engine_of(url: str) -> MovingModule:
    """The module of the engine that a URL names, whose stores can be moved.

    Raises:
        InvalidSetting: no engine has such a URL, or the stores of that one can't.
    """
    row = _row(url)
    module = importlib.import_module(row.module)
    if not isinstance(module, MovingModule):
        raise InvalidSetting(
            f"a store at {row.form} cannot be moved yet, nor be what another one becomes"
        )
    return module


def database_engine_of(url: str) -> DatabaseModule:
    """The module of the engine that a URL names, whose stores lie where others look after them.

    Raises:
        InvalidSetting: no engine has such a URL, or that one needs nothing of the kind.
    """
    row = _row(url)
    module = importlib.import_module(row.module)
    if not isinstance(module, DatabaseModule):
        raise InvalidSetting(
            f"a store at {row.form} needs none of this: whoever opens it makes it, and brings it up"
            " to date; `pullstatus restore` begins a new epoch"
        )
    return module


def _row(url: str) -> Row:
    row = ENGINES.get(url.partition(":")[0])
    if row is None:
        forms = " or ".join(row.form for row in ENGINES.values())
        raise InvalidSetting(f"a store URL is {forms}; there is no other engine")
    return row
