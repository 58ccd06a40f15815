"""`pullstatus store ...`: a store in a database or a cluster, which others look after."""

from __future__ import annotations

import asyncio

import click

from pullstatus.cli.acting import acting
from pullstatus.cli.lazy import Group
from pullstatus.cli.output import print_json
from pullstatus.cli.session import plainly, store_option
from pullstatus.cli.texts import FILLED
from pullstatus.store import begin_epoch, init_store, upgrade_store


@click.group("store", cls=Group)
def store_group() -> None:
    """A store in a database or a cluster: making it, upgrades, going on after a restore."""


@store_group.command("init")
@click.option(
    "--partitions",
    type=int,
    metavar="K",
    help="Streams that applications are spread over, in a cluster: for ever. Not given, it is 12.",
)
@store_option
@plainly
def init(partitions: int | None, store_url: str) -> None:
    """Make the store in a database or a cluster that has none.

    In PostgreSQL it has a schema of its own, owned by the role that does this. Servers make it,
    too, where their role may; this is for a database in which it may not.

    In a cluster of NATS it is streams whose names begin with its own. Servers never make them.
    Given again, this goes on where it was cut off.
    """
    print_json({"created": asyncio.run(init_store(store_url, partitions=partitions))})


@store_group.command("upgrade")
@click.option("--post", is_flag=True, help="Also take steps that remove what older versions use.")
@store_option
@plainly
def upgrade(post: bool, store_url: str) -> None:
    """Bring the store to the format of this version, while its servers go on.

    Steps that only add something are taken at any time. One that removes something is taken with
    --post, once no process of the version before is left.
    """
    print_json({"formats": asyncio.run(upgrade_store(store_url, post=post))})


@store_group.command("new-epoch")
@click.option("--reason", type=FILLED, required=True, help="Why; kept on record.")
@store_option
@plainly
def new_epoch(reason: str, store_url: str) -> None:
    """Go on with a store that was restored, or has lost commits. End all servers first.

    What waits in it may have been handed out before; it is marked so, and `pullstatus pulls show`
    tells. Pulls get other names from now on.
    """
    act = acting(reason).act("store new-epoch")
    print_json({"epoch": asyncio.run(begin_epoch(store_url, act))})
