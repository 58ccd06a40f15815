"""What can go wrong for somebody who pulls, in one tree, grouped by what is known about the page.

    PullstatusError
    `-- ClientError
        |-- CallRefused           the service said no, with a `result` other than 0
        |   |-- SignatureRefused    1001 1003: the appkey, most of the time
        |   |-- ClockSkewed         1021: our clock and theirs are more than ten minutes apart
        |   |   `-- AttemptLate       they are not: it was long on its way; trying again can help
        |   |-- UnknownSdkappid     1019 60006 60012
        |   |-- NotPermitted        1006 1009 1020 1030 1033: switched off, address, arrears
        |   |-- CallInvalid         1004 1011 1016 60002 60003 60009: it is written wrongly
        |   |-- TooFrequent         60007, HTTP 429: trying later helps
        |   `-- ServiceFailed       1007 1008 60008 60013: their trouble; trying again can help
        |-- NoAnswer              the network
        |   |-- NotConnected        nothing was sent; trying again can help
        |   |   `-- CertificateRefused  the service's certificate is not to be believed
        |   `-- AnswerLost          sent, but no whole answer came: is the page gone?
        |-- AnswerUnreadable      an answer, but not the service's
        |   |-- WrongAddress        HTTP 3xx or 4xx: somebody else lives there
        |   |-- GatewayFailed       HTTP 5xx or 408: a proxy speaks for a service that did not
        |   `-- AnswerMalformed     not the JSON that is due; its bytes are in `content`
        |-- ReaderUnsupported   the service knows no readers; nothing was pulled
        |-- StateFailed         the state file can't be written; nothing was pulled
        |-- KeyExpired            a page may have been taken, too long ago to have it again
        |-- BatchRefused          a push is refused; nothing of the batch was stored
        `-- InvalidArgument       an argument is wrong, a ValueError too; nothing was sent
            |-- InvalidEnvironment  a variable of a proxy or of certificates is
            `-- NotAcknowledged     the next batch is asked for before the last was finished

Each class has a stable `code` for tables and logs. The text says what happened and what to do, and
never holds an appkey, a token or a record.
"""

from __future__ import annotations

from typing import ClassVar

from pullstatus import limits
from pullstatus.errors import PullstatusError
from pullstatus.terminal import visible

__all__ = [
    "AnswerLost",
    "AnswerMalformed",
    "AnswerUnreadable",
    "AttemptLate",
    "BatchRefused",
    "CallInvalid",
    "CallRefused",
    "CertificateRefused",
    "ClientError",
    "ClockSkewed",
    "GatewayFailed",
    "InvalidArgument",
    "InvalidEnvironment",
    "KeyExpired",
    "NoAnswer",
    "NotAcknowledged",
    "NotConnected",
    "NotPermitted",
    "ReaderUnsupported",
    "ServiceFailed",
    "SignatureRefused",
    "StateFailed",
    "TooFrequent",
    "UnknownSdkappid",
    "WrongAddress",
]


def shown(text: str) -> str:
    """What the other side says, as a text may have it: on one line, not endless."""
    most = limits.REASON_CHARS_MAX
    text = visible(text[: most + 1]).replace("\n", "\\n")
    return text if len(text) <= most else f"{text[: most - 3]}..."


class ClientError(PullstatusError):
    """A call failed.

    Its text and `what` have nothing in them that steers a terminal or begins a new line of a log,
    whatever the other side has said.

    Attributes:
        what: what happened.
        fix: what to do about it, a sentence.
        may_have_consumed: the mailbox may have given out a page that never reached us. Against a
            service that knows `Idempotency-Key`, asking again with `key` brings it; so does any
            pull of the same reader; against others it may be lost.
        key: the Idempotency-Key of the page, None if no page was asked for, or by a reader. The
            next pull of the same client asks with it by itself.
        retry_can_help: the same call may work later.
        retry_after_s: seconds that the other side told us to wait, None if it didn't.
    """

    code: ClassVar[str] = "client_error"
    retry_can_help: ClassVar[bool] = False

    def __init__(self, what: str, *, fix: str = "", may_have_consumed: bool = False) -> None:
        what = shown(what)
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.may_have_consumed = may_have_consumed
        self.key: str | None = None
        self.retry_after_s: float | None = None

    def __str__(self) -> str:
        return f"{self.what}: {self.fix}" if self.fix else self.what


# --- the service said no --------------------------------------------------------------------------


class CallRefused(ClientError):
    """The service answered with a `result` other than 0.

    Attributes:
        result: the wire's code. For an answer in the form of API 3.0 the v5 code that means the
            same, or None if there is none.
        errmsg: the service's own words.
    """

    code = "call_refused"

    def __init__(
        self,
        result: int | None,
        errmsg: str,
        *,
        fix: str = "",
        may_have_consumed: bool = False,
    ) -> None:
        said = errmsg if result is None else f"{result} {errmsg}".rstrip()
        super().__init__(
            f"the service refused: {said}", fix=fix, may_have_consumed=may_have_consumed
        )
        self.result = result
        self.errmsg = errmsg


class SignatureRefused(CallRefused):
    """`sig` does not fit: the appkey is another application's, or has a blank or line end."""

    code = "signature_refused"


class ClockSkewed(CallRefused):
    """Our clock and the service's differ too much.

    Attributes:
        skew_s: seconds that our clock is ahead of the answer's `Date` header (negative: behind),
            None if there was none.
    """

    code = "clock_skewed"
    skew_s: float | None = None


class AttemptLate(ClockSkewed):
    """The clocks agree, so it was long on its way, and is signed anew when it is repeated.

    It waited for a connection, or a balancer had it, or this machine was asleep.
    """

    code = "attempt_late"
    retry_can_help = True


class UnknownSdkappid(CallRefused):
    """The service knows no such sdkappid."""

    code = "unknown_sdkappid"


class NotPermitted(CallRefused):
    """The application may not pull, or not from here."""

    code = "not_permitted"


class CallInvalid(CallRefused):
    """The call is written wrongly."""

    code = "call_invalid"


class TooFrequent(CallRefused):
    """More calls than the application may make. Nothing was consumed; wait, then try again."""

    code = "too_frequent"
    retry_can_help = True


class ServiceFailed(CallRefused):
    """The service has trouble of its own.

    Ours consumes nothing when it says so. Of another one nobody can say: 60008 also means that its
    gateway gave up waiting, while the service behind it may have gone on.
    """

    code = "service_failed"
    retry_can_help = True


# --- the network ----------------------------------------------------------------------------------


class NoAnswer(ClientError):
    """The network failed us."""

    code = "no_answer"
    retry_can_help = True


class NotConnected(NoAnswer):
    """There was no connection, so nothing was sent and nothing consumed."""

    code = "not_connected"


class CertificateRefused(NotConnected):
    """The other side's certificate is not to be believed, and will not be the next time either."""

    code = "certificate_refused"
    retry_can_help = False


class AnswerLost(NoAnswer):
    """The call went out, and no whole answer came back."""

    code = "answer_lost"


# --- somebody else answered -----------------------------------------------------------------------


class AnswerUnreadable(ClientError):
    """There was an answer, but not one of the service.

    Attributes:
        http_status: its HTTP status.
        content: its body. If records are in it, this is where they still are.
    """

    code = "answer_unreadable"

    def __init__(
        self,
        what: str,
        *,
        http_status: int,
        content: bytes,
        fix: str = "",
        may_have_consumed: bool = False,
    ) -> None:
        super().__init__(what, fix=fix, may_have_consumed=may_have_consumed)
        self.http_status = http_status
        self.content = content


class WrongAddress(AnswerUnreadable):
    """Whoever lives at this address is not the service. Nothing was consumed."""

    code = "wrong_address"


class GatewayFailed(AnswerUnreadable):
    """Something between us and the service answered for it."""

    code = "gateway_failed"
    retry_can_help = True


class AnswerMalformed(AnswerUnreadable):
    """The answer is not the JSON that is due."""

    code = "answer_malformed"
    retry_can_help = True


# --- what a client was given to keep its pages by -------------------------------------------------


class ReaderUnsupported(ClientError):
    """The client has a `reader`, and the service knows none. It is not pulled from without.

    Where headers get lost on the way, a page may be taken before that is known: then that page is
    handed over, and this is raised instead of the next.
    """

    code = "reader_unsupported"


class StateFailed(ClientError):
    """The file that `state` names could not be written, so no page was asked for.

    Nor is one for a signal's handler that pulls while what it has interrupted writes that file.
    """

    code = "state_failed"


# --- time -----------------------------------------------------------------------------------------


class KeyExpired(ClientError):
    """An attempt with `key` had no answer for so long that the service may have forgotten the key.

    If that attempt took a page, the operator finds it by the key and can hand it out again. Raised
    once; the next pull has a new key.
    """

    code = "key_expired"


# --- pushes ---------------------------------------------------------------------------------------


class BatchRefused(ClientError):
    """A batch was refused as a whole; nothing of it was stored.

    Attributes:
        http_status: the status of the refusal.
        index: 0-based place of the first bad record in the batch, None if the batch as such is
            at fault.
        detail: the service's own words.
    """

    code = "batch_refused"

    def __init__(self, http_status: int, title: str, detail: str, index: int | None) -> None:
        super().__init__(f"the batch was refused: {title}", fix=shown(detail))
        self.http_status = http_status
        self.detail = detail
        self.index = index


# --- our caller -----------------------------------------------------------------------------------


class InvalidArgument(ClientError, ValueError):
    """An argument is wrong. Nothing was sent."""

    code = "invalid_argument"


class InvalidEnvironment(InvalidArgument):
    """A variable of the environment that counts for this service is of no use; the text names it.

    They are those of proxies (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`) and of
    certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`, `SSLKEYLOGFILE`).
    """

    code = "invalid_environment"


class NotAcknowledged(InvalidArgument):
    """The next batch was asked for before the last one was finished."""

    code = "not_acknowledged"
