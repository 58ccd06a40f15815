"""`pullstatus serve`: the server, from flags, environment or a file."""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click
import structlog
import uvloop
from click.core import ParameterSource

from pullstatus import limits
from pullstatus.addresses import bare
from pullstatus.apps.networks import proxies_of
from pullstatus.cli.config import CONFIG_FILE, CONFIG_VARIABLE, READ, config_file, read_config
from pullstatus.cli.listening import HostAndPort, listening_options
from pullstatus.cli.master_keys import master_key_options, named_masters
from pullstatus.cli.numbers import FiniteRange
from pullstatus.cli.output import log_level_option, say_ready
from pullstatus.cli.session import plainly, store_option
from pullstatus.cli.statuses import RESTART
from pullstatus.client.arguments import split_address
from pullstatus.errors import InvalidSetting
from pullstatus.files import check_ordinary
from pullstatus.server import logs
from pullstatus.server.descriptors import check_limit, raise_limit
from pullstatus.server.serve import UPKEEP_EVERY_S, ServeOptions, Server
from pullstatus.server.supervisor import Supervisor
from pullstatus.server.workers.parent import Parent

log = structlog.get_logger(__name__)

UPKEEP_EVERY_S_MAX = 86_400
WORKERS_BY_CORES_MAX = 4  # beyond, one store process is busy before they are
# -P: what lies in the folder we happen to be in is not for import.
WORKER = (sys.executable, "-P", "-c", "from pullstatus.cli.worker import main; main()")


class _Serve(click.Command):
    """Names the file when a setting in it is wrong, not a flag that nobody gave.

    Remembers how it was called, so that everything it was told can be read anew.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[__name__] = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter as error:
            parameter = error.param
            if parameter is None or parameter.name is None:
                raise
            if ctx.get_parameter_source(parameter.name) is ParameterSource.DEFAULT_MAP:
                error.param_hint = f"{_flag(parameter)} in {ctx.meta[CONFIG_VARIABLE]}"
            raise


def _flag(parameter: click.Parameter) -> str:
    return parameter.opts[0].removeprefix("--")


def _load_config(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    context.meta[CONFIG_VARIABLE] = path
    context.meta.pop(READ, None)
    known = {
        _flag(parameter): parameter
        for parameter in context.command.params
        if parameter.name not in ("config", "help")
    }
    settings = plainly(read_config)(path, {name: form_of(known[name]) for name in known})
    context.meta[READ] = settings
    context.default_map = {str(known[name].name): value for name, value in settings.items()}


def _check_readable_again(path: Path | None) -> None:
    """Refuse a configuration file that has gone, or is a pipe: it was read to its end before.

    As settings they would be none, which are the defaults. And nobody is answered while a pipe is
    waited for.
    """
    if path is None:
        return
    try:
        check_ordinary(path, limits.NAMED_FILE_BYTES_MAX)
    except OSError as error:
        raise InvalidSetting(f"{path} cannot be read anew: {error.strerror}") from error


def form_of(parameter: click.Parameter) -> type:
    """What a setting takes in a file, one of `FORMS`."""
    if isinstance(parameter.type, click.types.BoolParamType):
        return bool
    if isinstance(parameter.type, click.IntRange):
        return int
    return float if isinstance(parameter.type, click.FloatRange) else str


def _check_proxies(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """The list in its usual spelling."""
    try:
        return ",".join(map(str, proxies_of(value)))
    except InvalidSetting as error:
        raise click.BadParameter(str(error)) from error


def _check_exposure(host: str, *, encrypted: bool, insecure: bool) -> None:
    """Answers hold telephone numbers: in the open they need TLS."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not (loopback or encrypted or insecure):
        raise click.UsageError(
            f"{host} is not a loopback address, and answers hold telephone numbers: give"
            " --tls-certificate and --tls-key, or --insecure if a proxy in front does TLS"
        )


def check_together(
    host: str, tls_certificate: Path | None, tls_key: Path | None, *, insecure: bool
) -> None:
    """Refuse settings that do not go together.

    Raises:
        click.UsageError: saying which, and why.
    """
    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key go together")
    _check_exposure(host, encrypted=tls_certificate is not None, insecure=insecure)


def _options(
    store_url: str,
    host: str,
    port: int,
    trusted_proxies: str,
    tls_certificate: Path | None,
    tls_key: Path | None,
    retention_days: float,
    log_level: str,
    master_key_file: Path | None,
    master_key_command: str | None,
    *,
    insecure: bool,
    upkeep_every: float,
    admin: tuple[str, int] | None,
    workers: int,
    worst: int,
    public_url: str,
) -> ServeOptions:
    """The settings, checked together."""
    check_together(host, tls_certificate, tls_key, insecure=insecure)
    workers = workers or min(len(os.sched_getaffinity(0)), WORKERS_BY_CORES_MAX)
    return ServeOptions(
        store_url,
        host,
        port,
        trusted_proxies,
        tls_certificate,
        tls_key,
        retention_days,
        upkeep_every_s=upkeep_every,
        admin=admin,
        masters=named_masters(store_url, master_key_file, master_key_command),
        workers=workers,
        worst=worst,
        public_url=_public_url(public_url),
        log_level=log_level,
    )


def _public_url(url: str) -> str:
    wrong = click.UsageError(
        "--public-url is http:// or https:// and a host, perhaps with a path:"
        " https://sms.example.com"
    )
    if not url:
        return url
    try:
        parts = split_address(url)
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise wrong
    return url


TURN_S = 0.0005  # of a thread, when another one waits for the interpreter; 5 ms by default


def shorten_waits() -> None:
    """Have the interpreter hold up requests for less.

    None of what start-up has made ever becomes garbage, and looking through it again and again made
    the longest waits. And a request needs the event loop some four times, which waits each time for
    the turn of a thread that computes, as one that makes the index does.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(TURN_S)


def _ready(server: Server) -> None:
    """Say where we listen."""
    shorten_waits()
    if server.store.created:
        log.warning("made a new store", store=bare(server.options.store))
    if os.geteuid() == 0:
        log.warning("runs as root", reason="a user of its own can do less harm; make it one")
    say_ready(f"pullstatus listens on {server.address}")


def end(server: Server) -> None:
    """End the process at once; what is under way was not acknowledged."""
    log.warning("ended with work unfinished", deadline_s=limits.DRAIN_DEADLINE_S)
    logging.shutdown()  # what is said is written
    os._exit(RESTART if server.restart_due else 0)


@click.command("serve", cls=_Serve)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar=CONFIG_VARIABLE,
    show_envvar=True,
    default=config_file,
    is_eager=True,
    expose_value=False,
    callback=_load_config,
    help="A TOML file with any of these settings, named like the flags. Not given, it is"
    f" {CONFIG_FILE}, if that is there.",
)
@store_option
@master_key_options
@listening_options("Address to listen on.")
@click.option(
    "--admin",
    type=HostAndPort(),
    envvar="PULLSTATUS_ADMIN",
    show_envvar=True,
    help="Address and port, as HOST:PORT, for /healthz, /readyz and /metrics: plain HTTP, and there"
    " only.",
)
@click.option(
    "--trusted-proxies",
    envvar="PULLSTATUS_TRUSTED_PROXIES",
    default="",
    show_envvar=True,
    callback=_check_proxies,
    help="Addresses and networks, separated by commas, whose X-Forwarded-For is believed.",
)
@click.option(
    "--tls-certificate",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    envvar="PULLSTATUS_TLS_CERTIFICATE",
    show_envvar=True,
    help="PEM file with the certificate chain: serve HTTPS.",
)
@click.option(
    "--tls-key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    envvar="PULLSTATUS_TLS_KEY",
    show_envvar=True,
    help="PEM file with the certificate's key.",
)
@click.option(
    "--insecure",
    is_flag=True,
    envvar="PULLSTATUS_INSECURE",
    show_envvar=True,
    help="Serve plain HTTP beyond this machine, for a proxy in front that does TLS.",
)
@click.option(
    "--retention-days",
    type=FiniteRange(limits.RETENTION_DAYS_MIN, limits.RETENTION_DAYS_MAX),
    envvar="PULLSTATUS_RETENTION_DAYS",
    default=limits.HANDED_OUT_RETENTION_DAYS,
    show_default=True,
    show_envvar=True,
    help="Days that records stay after they were handed out.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0, max=limits.WORKERS_MAX),
    envvar="PULLSTATUS_WORKERS",
    default=1,
    show_default=True,
    show_envvar=True,
    help="Processes that answer requests; 0: one for each processor core, up to"
    f" {WORKERS_BY_CORES_MAX}.",
)
@click.option(
    "--public-url",
    metavar="URL",
    envvar="PULLSTATUS_PUBLIC_URL",
    default="",
    show_envvar=True,
    help="Where gateways reach this server: https://sms.example.com. Some sign their callbacks, and"
    " the URL with them. Not given, it is where a request says that it was sent.",
)
@click.option(
    "--worst",
    type=click.IntRange(min=0, max=limits.WORST_TOLD_MAX),
    envvar="PULLSTATUS_WORST",
    default=limits.WORST_TOLD,
    show_default=True,
    show_envvar=True,
    help="How many mailboxes /metrics tells of one by one: so many with the oldest records, and so"
    " many in which most wait; 0: of none.",
)
@click.option(
    "--upkeep-every",
    type=FiniteRange(0, UPKEEP_EVERY_S_MAX, min_open=True),
    default=UPKEEP_EVERY_S,
    hidden=True,
    help="For tests of what happens during upkeep: seconds between two rounds of it.",
)
@log_level_option("How much to log on standard error, as JSON lines, or as text on a terminal.")
@click.pass_context
@plainly
def serve(context: click.Context, /, **settings: Any) -> None:  # noqa: ANN401
    """Serve the mailboxes until TERM or Ctrl-C.

    Prints one line with its address once it accepts connections. HUP has it read its TLS files and
    its settings anew; the log tells what needs a restart. USR1 has it log how it stands. systemd is
    told when it is ready (`Type=notify`), and that it goes on (`WatchdogSec=`).
    """

    def read_again() -> ServeOptions:
        arguments = list(context.meta[__name__])
        _check_readable_again(config_file())
        try:
            again = context.command.make_context("serve", arguments, parent=context.parent)
            return _options(**again.params)
        except click.ClickException as error:
            raise InvalidSetting(error.format_message()) from error  # which names the setting

    options = _options(**settings)
    logs.configure(settings["log_level"], workers=options.workers)
    supervisor = Supervisor.of(os.environ, os.getpid())
    if options.workers == 1:
        server = Server(options, source=read_again, supervisor=supervisor)
    else:
        server = Parent(options, command=WORKER, source=read_again, supervisor=supervisor)
    raise_limit()
    check_limit()
    server.on_overdue = lambda: end(server)
    uvloop.run(server.run(on_ready=lambda _address: _ready(server)))
    if server.restart_due:
        sys.exit(RESTART)
