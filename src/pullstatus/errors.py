"""Everything that can go wrong on purpose, in one tree, grouped by whose fault it is.

    PullstatusError
    |-- PeerError             what came over the wire is wrong; sending it again won't help
    |   |-- InvalidBody         no JSON (or NDJSON) of the shape that is due
    |   |-- BodyTooLarge        more bytes or more records than one request may carry
    |   |-- InvalidRecord       one record breaks a rule: which record, which member, the fix
    |   |-- InvalidAuthorization  what a request of API 3.0 is signed with cannot be read
    |   |-- ActionRefused       a call of API 3.0 gets an `Error`
    |   |-- Refused             a v5 call gets a `result` other than 0
    |   |-- NotAdmitted         who calls may not, or not now; each face has its own code for it
    |   |   |-- AddressRefused
    |   |   |-- SignatureWrong
    |   |   |-- TooOld
    |   |   |-- NotGranted      the application is none of those that a secret key pair may read
    |   |   |-- Disabled
    |   |   |-- InArrears
    |   |   |-- NotPermitted
    |   |   `-- TooFrequent
    |   |-- KeyReused           an Idempotency-Key came again with another request
    |   |-- AcknowledgementRefused  of another page than the one in the reader's hand
    |   |-- TooManyReaders      of one mailbox, each with a page in hand
    |   |-- ReplayRefused       the same signed request came again (strict mode)
    |   `-- SendsNotReported    sends are to be counted, and nobody has reported any
    |-- CallerError           an argument of our own caller, or of the operator, is wrong
    |   |-- UnknownApplication
    |   |-- UnknownToken
    |   |-- UnknownSecret
    |   |-- AlreadyExists
    |   `-- InvalidSetting      a bad value for an application, a token or a command line flag
    |       `-- EntriesDamaged  some of those that were named can't be read any more
    `-- WorldError            disk, engine, network
        |-- StoreUnavailable    definitely nothing happened; trying again can help
        |   |-- StoreFull
        |   |-- SettingChanged    a setting that it rested on was written meanwhile
        |   |-- CallerGone        nobody waits for it any more; it was never begun
        |   |-- Overloaded        too much is in hand already; not taken on
        |   |-- StoreSealed       it is being moved to another store
        |   |-- StoreMovedOn      it was, and is no longer in use: serve the other one
        |   |-- StoreDamaged      what is stored of one application; all others go on
        |   `-- StoreFailed       the disk failed: no more work until the process is restarted
        |       `-- CommitsLost     a database no longer has what it had said was safe
        |-- OutcomeUnknown      the commit may have happened: never answer, close the connection
        |   `-- StoreMoved        it happened in a file that the store's name no longer stands for
        |-- EntriesLeft         what was to be removed is stored still, or some of it; try again
        `-- StoreRefused        engine or file isn't safe to open; the text says what to change
            |-- MasterKeyMissing  appkeys are sealed under a master key that is not at hand
            `-- StoreCorrupt

Our own mistakes have no class: whatever is not in this tree is a bug, logged in full and answered
as internal. Each leaf has a stable `code` for tables and logs; the text is for people. No text
holds a value that somebody sent, an appkey, a secret or a token.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AcknowledgementRefused",
    "ActionRefused",
    "AddressRefused",
    "AlreadyExists",
    "BodyTooLarge",
    "CallerError",
    "CallerGone",
    "CommitsLost",
    "Disabled",
    "EntriesDamaged",
    "EntriesLeft",
    "InArrears",
    "InvalidAuthorization",
    "InvalidBody",
    "InvalidRecord",
    "InvalidSetting",
    "KeyReused",
    "MasterKeyMissing",
    "NotAdmitted",
    "NotGranted",
    "NotPermitted",
    "OutcomeUnknown",
    "Overloaded",
    "PeerError",
    "PullstatusError",
    "Refused",
    "ReplayRefused",
    "SendsNotReported",
    "SettingChanged",
    "SignatureWrong",
    "StoreCorrupt",
    "StoreDamaged",
    "StoreFailed",
    "StoreFull",
    "StoreMoved",
    "StoreMovedOn",
    "StoreRefused",
    "StoreSealed",
    "StoreUnavailable",
    "TooFrequent",
    "TooManyReaders",
    "TooOld",
    "UnknownApplication",
    "UnknownSecret",
    "UnknownToken",
    "WorldError",
]


class PullstatusError(Exception):
    """The root. Catch it to catch every failure that pullstatus foresees."""

    code: ClassVar[str] = "error"
    retry_can_help: ClassVar[bool] = False

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle what it holds, not how it was made: some constructors take more than `args`."""
        return _unpickled, (type(self), self.args), self.__dict__


def _unpickled(kind: type[PullstatusError], args: tuple[object, ...]) -> PullstatusError:
    error = kind.__new__(kind)
    error.args = args
    return error


# --- the peer's fault ---------------------------------------------------------------------------


class PeerError(PullstatusError):
    """What came over the wire is wrong, and stays wrong if it is sent again."""

    code = "peer_error"


class InvalidBody(PeerError):
    """The body is not JSON or NDJSON, or not of the shape that is due."""

    code = "invalid_body"


class BodyTooLarge(PeerError):
    """The request carries more bytes or more records than one request may."""

    code = "body_too_large"


class InvalidRecord(PeerError):
    """A record breaks a rule, so its whole batch is refused.

    Args:
        member: the member at fault, or "record" for the record as a whole.
        fix: what it must be, as the rest of a sentence: "must be digits".
        index: 0-based place of the record in its batch; None outside a batch.
    """

    code = "invalid_record"

    def __init__(self, member: str, fix: str, index: int | None = None) -> None:
        super().__init__(member, fix, index)  # as given, so that the error can be pickled
        self.member = member
        self.fix = fix
        self.index = index

    def __str__(self) -> str:
        if self.index is None:
            return f"{self.member} {self.fix}"
        return f"record {self.index}: {self.member} {self.fix}"

    def at(self, index: int) -> InvalidRecord:
        """Return the same complaint about the record at this place of a batch."""
        return InvalidRecord(self.member, self.fix, index)


class InvalidAuthorization(PeerError):
    """What says how a request of API 3.0 is signed is not of the shape that is due."""

    code = "invalid_authorization"


class Refused(PeerError):
    """A v5 call is refused; it consumed nothing.

    Args:
        result: the wire's code, of `wire.v5.codes.Result`, or of a send's own.
        errmsg: the wire's text: short ASCII English with the fix, no input, no secret.
    """

    code = "refused"

    def __init__(self, result: int, errmsg: str) -> None:
        super().__init__(result, errmsg)
        self.result = result
        self.errmsg = errmsg

    def __str__(self) -> str:
        return f"{int(self.result)}: {self.errmsg}"


class ActionRefused(PeerError):
    """A call of API 3.0 is refused; it consumed nothing.

    Args:
        error_code: the wire's code, of `wire.api3.codes.Code`.
        message: the wire's text: short ASCII English with the fix, no input, no secret.
    """

    code = "action_refused"

    def __init__(self, error_code: str, message: str) -> None:
        super().__init__(error_code, message)
        self.error_code = error_code
        self.message = message

    def __str__(self) -> str:
        return f"{self.error_code}: {self.message}"


class NotAdmitted(PeerError):
    """An application may not make this call, as it is set up now; nothing was consumed."""

    code = "not_admitted"


class AddressRefused(NotAdmitted):
    """The caller's address is not on the application's allow-list."""

    code = "address_refused"


class SignatureWrong(NotAdmitted):
    """The request is not signed with a live key of the application, or with the pair's secret."""

    code = "signature_wrong"


class TooOld(NotAdmitted):
    """The request was signed longer ago than the application's requests may be."""

    code = "too_old"


class NotGranted(NotAdmitted):
    """The secret key pair that signed is not for this application, which may not exist."""

    code = "not_granted"


class Disabled(NotAdmitted):
    """The application is switched off."""

    code = "disabled"


class InArrears(NotAdmitted):
    """The application is stopped for unpaid bills."""

    code = "in_arrears"


class NotPermitted(NotAdmitted):
    """What the call wants is not switched on for the application."""

    code = "call_not_permitted"


class TooFrequent(NotAdmitted):
    """The application calls more often than it may."""

    code = "over_its_rate"


class KeyReused(PeerError):
    """An Idempotency-Key came again, but with another request."""

    code = "key_reused"


class AcknowledgementRefused(PeerError):
    """A reader acknowledged another page than the one in its hand; nothing happened."""

    code = "acknowledgement_refused"


class TooManyReaders(PeerError):
    """A mailbox has all the readers it may have, each with a page in hand; nothing happened."""

    code = "too_many_readers"


class ReplayRefused(PeerError):
    """The same signed request came again, and the application refuses repeats."""

    code = "replay_refused"


class SendsNotReported(PeerError):
    """An application's sends are to be counted, and nobody has ever reported any."""

    code = "sends_not_reported"

    def __init__(
        self,
        message: str = "nobody has reported the sends of this application, so there is nothing to"
        " count: they are told to POST /ingest/{sdkappid}/sends",
    ) -> None:
        super().__init__(message)


# --- our caller's fault ---------------------------------------------------------------------------


class CallerError(PullstatusError):
    """An argument is wrong: of our caller, or of the operator at the command line."""

    code = "caller_error"


class UnknownApplication(CallerError):
    """No application has this sdkappid."""

    code = "unknown_application"


class UnknownToken(CallerError):
    """No ingest token is like this one."""

    code = "unknown_token"


class UnknownSecret(CallerError):
    """No secret key pair has this SecretId, or it is disabled."""

    code = "unknown_secret"


class AlreadyExists(CallerError):
    """An application, token or secret key pair of this name is there already."""

    code = "already_exists"


class InvalidSetting(CallerError):
    """A value for an application, a token or a command line flag is out of bounds."""

    code = "invalid_setting"


class EntriesDamaged(InvalidSetting):
    """Some of the entries that were named are damaged, so nothing is done with any of them."""

    code = "entries_damaged"


# --- the world's fault ----------------------------------------------------------------------------


class WorldError(PullstatusError):
    """The disk, the engine or the network failed us."""

    code = "world_error"


class StoreUnavailable(WorldError):
    """The store could not do it. Definitely nothing happened; trying again can help."""

    code = "store_unavailable"
    retry_can_help = True

    @property
    def for_callers(self) -> str:
        """What a caller of a server is told of it: its text, unless that names a place."""
        return str(self)


class StoreFull(StoreUnavailable):
    """The store has no room for more entries. Pulls still work."""

    code = "store_full"


class SettingChanged(StoreUnavailable):
    """A setting that the operation rested on was written meanwhile. Read it, then try again."""

    code = "setting_changed"


class CallerGone(StoreUnavailable):
    """Who asked for it has gone before it was its turn: it was dropped."""

    code = "caller_gone"


class Overloaded(StoreUnavailable):
    """The server, the application or the address has too much in hand; it was not taken on."""

    code = "overloaded"


class StoreSealed(StoreUnavailable):
    """The store is being moved to another, or filled from one: nothing is done to it until then."""

    code = "store_sealed"


class StoreMovedOn(StoreUnavailable):
    """What the store held is in another one now, for good. This one takes no more work.

    The text says where that is, which is no caller's business.
    """

    code = "store_moved_on"

    @property
    def for_callers(self) -> str:
        """See `StoreUnavailable`."""
        return "the store is not in use any more; come again"


class StoreDamaged(StoreUnavailable):
    """What is stored of an application is damaged, so that it cannot be gone on with.

    Nothing happened to it, and nothing will until it is as it was; all others go on.
    """

    code = "store_damaged"
    retry_can_help = False


class StoreFailed(StoreUnavailable):
    """The disk could not be read or written. Nothing happened, and nothing more will.

    After a failed write or sync nobody can say what the disk holds, so the store takes no more
    work; the process ends and recovers at its next start.
    """

    code = "store_failed"


class CommitsLost(StoreFailed):
    """The database no longer has a commit that it had acknowledged: it was set back, or replaced.

    No more work is taken until an operator has begun a new epoch.
    """

    code = "commits_lost"


class OutcomeUnknown(WorldError):
    """The commit may or may not have happened.

    Never answer after this one: a success could be a lie, and so could a failure. Close the
    connection. A caller with an Idempotency-Key can safely ask again.
    """

    code = "outcome_unknown"


class StoreMoved(OutcomeUnknown):
    """The store's file, its log or their folder was moved, removed, replaced or written over.

    Commits still succeed, in files that nobody may find again; so none is answered, and the process
    ends.
    """

    code = "store_moved"


class EntriesLeft(WorldError):
    """Some of what was to be removed for good is stored still. Trying again can help."""

    code = "entries_left"
    retry_can_help = True


class StoreRefused(WorldError):
    """The engine or its file isn't safe to open; the text says what to change."""

    code = "store_refused"


class MasterKeyMissing(StoreRefused):
    """Appkeys are sealed under a master key that is not at hand; the text says which one."""

    code = "master_key_missing"


class StoreCorrupt(StoreRefused):
    """The stored data contradict themselves. Nothing was touched; restore a backup."""

    code = "store_corrupt"


def extra_missing(error: ImportError) -> str:
    """What to tell whoever has only the client and asks for more: which extra to install.

    No package index has this package, and a name that anybody may take there must not be told.
    """
    missing = (error.name or "a package").partition(".")[0]
    extra, whose = "server", "the server does"
    if missing in COMMAND_LINE:
        extra, whose = "cli", "every command does"
    elif missing == "psycopg":
        extra, whose = "postgresql", "a store in PostgreSQL does"
    elif missing == "nats":
        extra, whose = "jetstream", "a store in NATS JetStream does"
    return (
        f"{missing} is not installed, and this needs it, as {whose}:"
        f" pip install '/path/to/checkout[{extra}]'"
    )


COMMAND_LINE = ("click", "rich")
"""The packages of the extra `cli`."""
