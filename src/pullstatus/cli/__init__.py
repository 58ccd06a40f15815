"""The command line: the one room, with `config`, that knows all others."""

from __future__ import annotations

import click

from pullstatus.cli.apps import app_group, token_group
from pullstatus.cli.demo import demo
from pullstatus.cli.pulls import pulls_group, redeliver
from pullstatus.cli.serve import serve
from pullstatus.cli.soundness import audit, backup, restore


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pullstatus", message="%(prog)s %(version)s")
def main() -> None:
    """A durable mailbox for SMS delivery statuses and replies.

    Gateways put records in, applications pull them out, at most 100 at a time; what was pulled is
    never returned again, what was accepted is never lost.
    """


main.add_command(demo)
main.add_command(serve)
main.add_command(app_group)
main.add_command(token_group)
main.add_command(pulls_group)
main.add_command(redeliver)
main.add_command(audit)
main.add_command(backup)
main.add_command(restore)
