"""The figures of a running server, read back from its `/metrics`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from pullstatus import limits
from pullstatus.addresses import bare
from pullstatus.client.deadline import Transport
from pullstatus.client.drivers import drive
from pullstatus.client.errors import InvalidArgument
from pullstatus.client.exchange import Answer, Look, Unanswered, send
from pullstatus.client.route import check_address, open_http
from pullstatus.client.service_name import PORTS
from pullstatus.errors import StoreUnavailable

ANSWER_S = 2 * limits.FIGURES_S + 4.0
"""A server whose store stands still answers within that, too, and behind who asked before."""


class Figures:
    """What a server said at one moment."""

    def __init__(self, text: str) -> None:
        """Read the text.

        Raises:
            ValueError: it is none of figures.
        """
        self._samples: dict[str, list[Sample]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append(sample)

    def __contains__(self, name: str) -> bool:
        return name in self._samples

    def of(self, name: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """All values of a figure, with their labels."""
        for sample in self._samples.get(name, ()):
            yield sample.labels, sample.value

    def total(self, name: str, **labels: str) -> float:
        """The sum of the values of a figure that have these labels; 0 if there is none."""
        return sum(value for found, value in self.of(name) if labels.items() <= found.items())

    @property
    def version(self) -> str:
        """Which one the server is of; "" if it does not say."""
        said = (found.get("version", "") for found, _ in self.of("pullstatus_build_info"))
        return next(said, "")


def check_server(address: str, flag: str) -> None:
    """Refuse what is no address of a server, not of one of its pages.

    Raises:
        InvalidArgument: saying what is. Nothing of the address, which may hold a password.
    """
    try:
        check_address(address)
        parts = urlsplit(address)
        good = parts.scheme in PORTS and not parts.query and not parts.fragment
    except InvalidArgument:
        good = False
    if not good:
        raise InvalidArgument(
            f"{flag} is no address of a server, which is like http://127.0.0.1:8080"
        ) from None


def client(address: str, *, own: bool) -> httpx.Client:
    """For a server at `address`; `own`: it is on this machine, and no name is proven.

    Raises:
        InvalidArgument, InvalidEnvironment: as of `open_http`.
    """
    if not own:
        return open_http(address, ANSWER_S)
    anyone = Transport(verify=False)  # its certificate has another name
    return httpx.Client(timeout=ANSWER_S, transport=anyone, trust_env=False)


def get(asking: httpx.Client, address: str) -> Answer:
    """What is answered there, whole within the timeout of `asking`; cut off where it is endless.

    Raises:
        httpx.HTTPError, httpx.InvalidURL: nothing is.
    """
    wait_s = asking.timeout.read or ANSWER_S
    look = Look(address, {"Accept-Encoding": "identity"}, wait_s, limits.ANSWER_BYTES_MAX)
    outcome = drive(send(look), lambda: asking, time.sleep)
    if isinstance(outcome, Unanswered):
        if isinstance(outcome.cause, httpx.HTTPError | httpx.InvalidURL):
            raise outcome.cause
        raise httpx.TransportError(outcome.reason) from outcome.cause
    return outcome


def scrape(asking: httpx.Client, address: str) -> Figures:
    """The figures of the server at `address`.

    Raises:
        StoreUnavailable: nobody answers there, or with something else; the text says what to do.
    """
    where = address.rstrip("/")
    told = bare(where)
    try:
        answer = get(asking, f"{where}/metrics")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StoreUnavailable(
            f"no server answers at {told} ({type(error).__name__}): start it, or name where its"
            " /metrics is with --url"
        ) from error
    if answer.http_status != HTTPStatus.OK:
        raise StoreUnavailable(
            f"{told}/metrics answers {answer.http_status}: name the address of --admin with"
            " --url, if the server has one, not that of a proxy"
        )
    try:
        figures = Figures(answer.content.decode())
    except (ValueError, LookupError) as error:  # the parser's own, too
        raise no_figures(where) from error
    if "pullstatus_build_info" not in figures:
        raise no_figures(where)
    return figures


def no_figures(where: str) -> StoreUnavailable:
    """What to say of somebody else's answer."""
    return StoreUnavailable(
        f"what answers at {bare(where)}/metrics is no pullstatus: name where the server is with"
        " --url"
    )
