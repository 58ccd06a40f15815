"""The command line: the one room, with `config`, that knows all others."""

from __future__ import annotations

import click

from pullstatus.cli.lazy import Commands, LazyGroup, Planned

COMMANDS = {
    "acts": ("acts:acts_group", "What operators did: who, when, to what, and why."),
    "app": ("apps:app_group", "Applications: the customers who pull."),
    "audit": (
        "soundness:audit",
        "Prove from the data that nothing is lost, doubled or changed.",
    ),
    "backup": (
        "soundness:backup",
        "Write a consistent, audited copy of the store to a new FILE, while it is in use.",
    ),
    "bench": (
        "bench:bench",
        "Measure a server, whichever it is: made-up records in, pages out, pulls of nothing.",
    ),
    "completion": (
        "completion:completion",
        "Print what makes SHELL complete commands, flags and their values.",
    ),
    "demo": ("demo.command:demo", "Show it at work: a server, made-up traffic, a signed pull."),
    "doctor": (
        "doctor.command:doctor",
        "Look whether all is set up as it should be, and say what is to be done.",
    ),
    "emulate": (
        "emulate:emulate",
        "Emulate the service for tests: pulls, sends, and failures on demand.",
    ),
    "erase": (
        "erase:erase",
        "Remove all records of an application, or of a telephone number, and every trace of them.",
    ),
    "find": (
        "find:find",
        "Where is the report for this number? A row for each record of it that is stored.",
    ),
    "keys": ("keys:keys_group", "Master keys: what appkeys and secret keys are sealed under."),
    "migrate": (
        "migrate:migrate",
        "Move all that a store holds into a new store, and switch to that one.",
    ),
    "parked": ("parked:parked_group", "What could not be read of callbacks, kept as it came."),
    "pull": ("pull:pull", "Take records out of a mailbox, until it is empty."),
    "pulls": ("pulls:pulls_group", "The journal: who was handed what, and when."),
    "push": ("push.command:push", "Put the records of FILE into a mailbox; - is standard input."),
    "readers": (
        "readers:readers_group",
        "Readers: consumers that acknowledge their pages, and the page in the hand of each.",
    ),
    "redeliver": (
        "pulls:redeliver",
        "Hand records out again: copies of them, at the end of their mailboxes.",
    ),
    "reindex": (
        "reindex:reindex",
        "Make anew what records are found by, and what statistics count, from the records.",
    ),
    "restore": (
        "soundness:restore",
        "Make a new store (--store) out of a backup FILE, and begin a new epoch.",
    ),
    "rewrite": (
        "soundness:rewrite",
        "Write the store's files anew, so that nothing is left in them of what was removed.",
    ),
    "route": (
        "routes:route_group",
        "Rules that say whose a record is that came with a platform's token.",
    ),
    "secret": (
        "pairs:secret_group",
        "Secret key pairs: what calls of API 3.0 are signed with.",
    ),
    "serve": ("serve:serve", "Serve the mailboxes until TERM or Ctrl-C."),
    "sign": ("signatures:sign", "Compute the signature of a request."),
    "source": (
        "source:source_group",
        "Sources: how gateways speak, of which each has an address, `/in/TOKEN/SOURCE`.",
    ),
    "stats": (
        "stats:stats",
        "Count the reports of an application, by the hour in which each was accepted, in UTC+8.",
    ),
    "status": ("status.command:status", "Show how a running server stands, and its rates."),
    "store": (
        "store:store_group",
        "A store in a database or a cluster: making it, upgrades, going on after a restore.",
    ),
    "token": ("tokens:token_group", "Tokens: what gateways show to put records in."),
    "verify": (
        "signatures:verify",
        "Check the signature of a request, and say what is wrong with it.",
    ),
}
"""Each command's place in this package, and its first sentence; a test compares."""


@click.group(
    cls=LazyGroup,
    commands=Commands(
        {
            name: Planned(f"{__name__}.{place}", sentence)
            for name, (place, sentence) in COMMANDS.items()
        }
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="pullstatus", message="%(prog)s %(version)s")
def main() -> None:
    """A durable mailbox for SMS delivery statuses and replies.

    Gateways put records in, applications pull them out, at most 100 at a time; what was pulled is
    never returned again, what was accepted is never lost.
    """
