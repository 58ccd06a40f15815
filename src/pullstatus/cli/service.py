"""What the commands of a service's customers share: where it is, who calls, with which key."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import click

from pullstatus import limits
from pullstatus.records import Kind

F = TypeVar("F", bound=Callable[..., object])

SECRET_BYTES_MAX: Final = 4096  # of any; a file that holds more is another file

KINDS = {"delivery-status": Kind.DELIVERY_STATUS, "reply": Kind.REPLY}

url_option = click.option(
    "--url",
    required=True,
    envvar="PULLSTATUS_URL",
    show_envvar=True,
    help="Where the service is, such as http://127.0.0.1:8080.",
)
sdkappid_option = click.option(
    "--sdkappid",
    required=True,
    type=click.IntRange(1, limits.SDKAPPID_MAX),
    envvar="PULLSTATUS_SDKAPPID",
    show_envvar=True,
    help="The application.",
)
type_option = click.option(
    "--type",
    "kind",
    required=True,
    type=click.Choice(list(KINDS)),
    help="Which mailbox.",
)


def count_max_option(help_of_it: str) -> Callable[[F], F]:
    """`--max`."""
    return click.option(
        "--max",
        "count_max",
        type=click.IntRange(1, limits.PULL_COUNT_MAX),
        default=limits.PULL_COUNT_MAX,
        show_default=True,
        help=help_of_it,
    )


def appkey_option(command: F) -> F:
    """`--appkey-file`. A key on the command line could be read by everybody on the machine."""
    return click.option(
        "--appkey-file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
        envvar="PULLSTATUS_APPKEY_FILE",
        show_envvar=True,
        help="File that holds the appkey, or - for standard input; otherwise it is in"
        " PULLSTATUS_APPKEY.",
    )(command)


def token_option(command: F) -> F:
    """`--token-file`; on the command line a token could be read by everybody on the machine."""
    return click.option(
        "--token-file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
        envvar="PULLSTATUS_TOKEN_FILE",
        show_envvar=True,
        help="File that holds the ingest token, or - for standard input; otherwise it is in"
        " PULLSTATUS_TOKEN.",
    )(command)


def read_secret(file: Path | None, variable: str, flag: str) -> str:
    """What the file holds, without the line end that editors add; or the environment variable.

    Raises:
        click.UsageError: there is neither.
    """
    if file is not None:
        return read_file(file, flag)
    value = os.environ.get(variable)
    if value is None:
        raise click.UsageError(f"Missing option '{flag}' (or the environment variable {variable}).")
    return value


def read_file(file: Path, flag: str) -> str:
    """The secret that a file holds, - being standard input, without the line end.

    Raises:
        click.ClickException: it cannot be read.
        click.UsageError: it is no text, or longer than any secret.
    """
    try:
        with click.open_file(str(file), "rb") as opened:
            content = bytes(opened.read(SECRET_BYTES_MAX + 1))
    except OSError as error:
        raise click.ClickException(f"{flag}: {file} cannot be read: {error.strerror}") from error
    if len(content) > SECRET_BYTES_MAX:
        raise click.UsageError(f"{flag}: {file} holds more than a secret")
    try:
        # Editors of Windows put a mark in front.
        return content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise click.UsageError(f"{flag}: {file} is no text") from None


def check_service(url: str) -> None:
    """Refuse an address that no service has.

    Raises:
        InvalidArgument: what one is like.
    """
    from pullstatus.client.arguments import check_base_url
    from pullstatus.client.route import check_address  # with httpx, which takes a tenth of a second

    check_base_url(url)
    check_address(url)
