"""`pullstatus token ...`: who may feed."""

from __future__ import annotations

from pathlib import Path

import click

from pullstatus import apps
from pullstatus.apps import Masters, Token
from pullstatus.cli.acting import acting
from pullstatus.cli.lazy import Group
from pullstatus.cli.master_keys import with_masters
from pullstatus.cli.numbers import SDKAPPID
from pullstatus.cli.output import json_option, moment, moment_or_none, print_json, print_rows
from pullstatus.cli.periods import MomentToCome
from pullstatus.cli.service import read_file
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.receipts.signatures import SCHEMES
from pullstatus.store import Noted, Store

signature_key_option = click.option(
    "--signature-key-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    help="File that holds what the gateway signs its requests with; - is standard input. What it"
    " did not sign with this is refused, if its source says how it signs.",
)
signature_scheme_option = click.option(
    "--signature-scheme",
    type=click.Choice([*SCHEMES]),
    help="How it signs, and no other gateway's callbacks are taken. Without it: as the key before"
    " was for, or else any that signs each request. Yunpian's receipts, which nobody signs, are"
    " taken with yunpian alone.",
)


@click.group("token", cls=Group)
def token_group() -> None:
    """Tokens: what gateways show to put records in.

    What is made or allowed here is good for the next request to a running server; what is taken
    away is refused within a second.
    """


@token_group.command("create")
@click.argument("name")
@click.option(
    "--sdkappid",
    type=SDKAPPID,
    help="The one application it may feed. Without it: every application, but not by /callbacks.",
)
@click.option(
    "--expires",
    "not_after_ms",
    type=MomentToCome(),
    help="When it ends to be good: 2027-11-23T04:00 (UTC). Without it: never.",
)
@signature_key_option
@signature_scheme_option
@store_option
@with_masters
@plainly
def create_token(
    name: str,
    sdkappid: int | None,
    not_after_ms: int | None,
    signature_key_file: Path | None,
    signature_scheme: str | None,
    store_url: str,
    masters: Masters,
) -> None:
    """Make a token and print it as JSON. Its secret is shown this once."""
    key = _signature_key(signature_key_file, signature_scheme)

    async def make(store: Store) -> None:
        token, secret = await apps.create_token(
            store,
            name,
            by=acting(),
            sdkappid=sdkappid,
            not_after_ms=not_after_ms,
            signature_key=key,
            signature_scheme=signature_scheme or "",
            keyring=None if key is None else await apps.open_keyring(store, masters),
        )
        print_json({"token": secret, **_shown_token(token, None)})

    with_store(store_url, make, create=True)


@token_group.command("set")
@click.argument("name")
@signature_key_option
@signature_scheme_option
@click.option("--unsigned", is_flag=True, help="Requests under it need not be signed any more.")
@store_option
@with_masters
@plainly
def set_token(
    name: str,
    signature_key_file: Path | None,
    signature_scheme: str | None,
    unsigned: bool,
    store_url: str,
    masters: Masters,
) -> None:
    """Change what a gateway signs its requests under a token with."""
    key = _signature_key(signature_key_file, signature_scheme)
    if (key is None) != unsigned:
        raise click.UsageError("say one of --signature-key-file and --unsigned")

    async def change(store: Store) -> Token:
        keyring = None if key is None else await apps.open_keyring(store, masters)
        return await apps.set_signature_key(
            store, name, key, scheme=signature_scheme or "", by=acting(), keyring=keyring
        )

    print_json(_shown_token(with_store(store_url, change), None))


def _signature_key(file: Path | None, scheme: str | None) -> str | None:
    if file is None and scheme:
        raise click.UsageError("--signature-scheme needs --signature-key-file")
    return None if file is None else read_file(file, "--signature-key-file")


@token_group.command("list")
@json_option
@store_option
@plainly
def list_tokens(as_json: bool, store_url: str) -> None:
    """List all tokens, without their secrets, and when each was used last, a minute later."""
    print_rows(
        [_shown_token(*each) for each in with_store(store_url, apps.tokens)],
        as_json=as_json,
        columns=["name", "sdkappid", "signed", "created", "expires", "last_used", "last_used_from"],
        empty="No tokens yet: pullstatus token create NAME makes one.",
    )


@token_group.command("revoke")
@click.argument("name")
@store_option
@plainly
def revoke_token(name: str, store_url: str) -> None:
    """Make a token good for nothing."""
    with_store(store_url, lambda store: apps.revoke_token(store, name, by=acting()))
    print_json({"revoked": name})


def _shown_token(token: Token, used: Noted | None) -> dict[str, object]:
    return {
        "name": token.name,
        "sdkappid": token.sdkappid,
        "signed": token.signature is not None,
        "signature_scheme": (token.signature and token.signature.scheme) or None,
        "created": moment(token.created_ms),
        "expires": moment_or_none(token.not_after_ms),
        "last_used": moment_or_none(used and used.at_ms),
        "last_used_from": used and used.place,
    }
