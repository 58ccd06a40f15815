"""`pullstatus emulate`: the service with made-up traffic and failures on demand, until Ctrl-C."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pullstatus.cli.listening import listening_options
from pullstatus.cli.output import log_level_option, say, say_ready
from pullstatus.cli.session import plainly
from pullstatus.cli.statuses import RESTART

if TYPE_CHECKING:
    from pullstatus.emulator.run import EmulatorServer


@click.command("emulate")
@click.option(
    "--scenario",
    "scenario_path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="PULLSTATUS_SCENARIO",
    show_envvar=True,
    help="A TOML file: traffic, outcomes, replies, faults. Without it nothing comes by itself.",
)
@listening_options(
    "Address to listen on. Whoever reaches it can do everything: its appkey is public."
)
@log_level_option(
    "How much to log on standard error, as JSON lines, or as text on a terminal; info tells of"
    " every request."
)
@click.option("--example", is_flag=True, help="Print an example of a scenario, and end.")
@plainly
def emulate(
    scenario_path: Path | None, host: str, port: int, log_level: str, *, example: bool
) -> None:
    """Emulate the service for tests: pulls, sends, and failures on demand.

    Has one application, sdkappid 1400006666 with appkey 5f03a35d00ee52a21327ab048186a2c4, and for
    API 3.0 the SecretId AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE with the SecretKey
    Gu5t9xGARNpq86cd98joQYCN3EXAMPLE, unless the scenario names others; on a temporary store that is
    removed at the end. What is sent is delivered a second later. Prints one line with its address
    once it accepts connections; TERM, HUP or Ctrl-C ends it.
    """
    import uvloop

    from pullstatus.cli.serve import end
    from pullstatus.emulator import run, scenario
    from pullstatus.server import logs
    from pullstatus.server.descriptors import check_limit

    if example:
        say(scenario.example(), nl=False)
        return
    wanted = scenario.Scenario()
    if scenario_path is not None:
        wanted = scenario.read_scenario(scenario_path)
    logs.configure(log_level, sums=False)  # who develops looks for each request

    def ready(server: EmulatorServer) -> None:
        say_ready(f"pullstatus emulator listens on {server.address}")
        if sys.stdout.isatty():
            application = wanted.application
            say(f"sdkappid {application.sdkappid}, appkey {application.appkey}")
            say(f"SecretId {wanted.secret.id}, SecretKey {wanted.secret.key}")

    check_limit()
    server = uvloop.run(run.emulate(wanted, host, port, on_ready=ready, on_overdue=end))
    if server.restart_due:
        sys.exit(RESTART)
