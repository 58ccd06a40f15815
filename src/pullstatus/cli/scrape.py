"""The figures of a running server, read back from its `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from pullstatus.client.errors import InvalidArgument
from pullstatus.client.route import open_http
from pullstatus.errors import StoreUnavailable

ANSWER_S = 5.0  # a server whose store stands still answers within that, too


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
        return next((found["version"] for found, _ in self.of("pullstatus_build_info")), "")


def client(address: str, *, own: bool) -> httpx.Client:
    """For a server at `address`; `own`: it is on this machine, and no name is proven.

    Raises:
        InvalidArgument, InvalidEnvironment: as of `open_http`.
    """
    if not address.startswith(("http://", "https://")):
        raise InvalidArgument("an address of a server is like http://127.0.0.1:8080")
    if not own:
        return open_http(address, ANSWER_S)
    return httpx.Client(
        timeout=ANSWER_S,
        trust_env=False,
        verify=False,  # noqa: S501 - its certificate has another name # nosec B501
    )


def scrape(asking: httpx.Client, address: str) -> Figures:
    """The figures of the server at `address`.

    Raises:
        StoreUnavailable: nobody answers there, or with something else; the text says what to do.
    """
    where = address.rstrip("/")
    try:
        answer = asking.get(f"{where}/metrics")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StoreUnavailable(
            f"no server answers at {where} ({type(error).__name__}): start it, or name where its"
            " /metrics is with --url"
        ) from error
    if answer.status_code != HTTPStatus.OK:
        raise StoreUnavailable(
            f"{where}/metrics answers {answer.status_code}: name the address of --admin with"
            " --url, if the server has one, not that of a proxy"
        )
    try:
        figures = Figures(answer.text)
    except ValueError as error:
        raise _no_figures(where) from error
    if "pullstatus_build_info" not in figures:
        raise _no_figures(where)
    return figures


def _no_figures(where: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"what answers at {where}/metrics is no pullstatus: name where the server is with --url"
    )
