"""The rules of a mailbox over any store: how records get in, how a page gets out.

    Receipts -> append -> [entries ... cursor ... tail] -> pull -> Page

This room turns what was read from a request into one operation of the store. It must not know
HTTP, signatures or a store's inside; the clock is passed in.
"""

from __future__ import annotations

import hashlib

from pullstatus.apps import LiveApplication
from pullstatus.mailbox.repeats import NEVER, Repeat
from pullstatus.mailbox.senders import marked
from pullstatus.receipts import Receipts
from pullstatus.records import Kind
from pullstatus.store import (
    Append,
    Fingerprints,
    Gone,
    Mailbox,
    Once,
    Page,
    Pull,
    RepeatKey,
    Store,
)


async def append(
    store: Store,
    live: LiveApplication,
    receipts: Receipts,
    *,
    sender: str,
    now_ms: int,
    ticket: bytes,
    key: str | None = None,
    body: bytes = b"",
    gone: Gone | None = None,
) -> int:
    """Put what a gateway or carrier sent into its mailbox, as a whole, durable on return.

    Args:
        sender: the name of who sends; keys and repeated records are told apart by sender.
        ticket: what the store knows this by, once the sender's mark is in it; see `store.Tickets`.
        key: the sender's Idempotency-Key, with the `body` it came with: the same batch sent again
            within `limits.INGEST_REPEAT_S` is acknowledged again and stored once.
        gone: whether the sender has; a batch that still waits for the store is dropped then.

    Returns:
        how many records are new; the others are repeats, and acknowledged as well.

    Raises:
        KeyReused: the key came before with another body.
        SettingChanged: the application is no longer as `live` knows it; nothing happened.
        StoreUnavailable: nothing happened; trying again can help. CallerGone: nor is there need.
        OutcomeUnknown: it may have happened; do not answer.
    """
    return await store.append(
        append_of(live, receipts, sender=sender, now_ms=now_ms, ticket=ticket, key=key, body=body),
        gone,
    )


def append_of(
    live: LiveApplication,
    receipts: Receipts,
    *,
    sender: str,
    now_ms: int,
    ticket: bytes,
    key: str | None = None,
    body: bytes = b"",
) -> Append:
    """The operation of `append`, with the same arguments."""
    mailbox = live.application.mailbox(receipts.kind)
    repeat_key = fingerprints = None
    if key is not None:
        digest = hashlib.blake2b(body, digest_size=16).digest()
        repeat_key = RepeatKey(scope_of(live, mailbox, sender), key, digest)
    if receipts.fingerprints is not None:
        scope = scope_of(live, mailbox, sender)
        fingerprints = Fingerprints(scope, receipts.fingerprints)
    return Append(
        mailbox,
        receipts.entries,
        now_ms,
        repeat_key,
        fingerprints,
        live.while_set,
        marked(ticket, sender),
    )


def scope_of(live: LiveApplication, mailbox: Mailbox, sender: str) -> str:
    """Within what a key or a fingerprint tells a repeat.

    What a former owner of the number was sent is no repeat of what this one is sent.
    """
    return "/".join(filter(None, (sender, str(mailbox), live.application.owner)))


async def pull(
    store: Store,
    live: LiveApplication,
    kind: Kind,
    count_max: int,
    *,
    address: str,
    proof: str,
    once: Once | None,
    repeat: Repeat = NEVER,
    now_ms: int,
    ticket: bytes,
    gone: Gone | None = None,
) -> Page:
    """Take a page out of one of an application's mailboxes; durable on return.

    Args:
        proof: what the request was proven by, for the journal.
        once: what a strict application lets come once only; None: its face has no such thing.
        repeat: how its page can be had again.
        ticket: what the store knows this by; see `store.Tickets`.
        gone: whether the caller has; a pull that still waits for the store is dropped then.

    Raises:
        KeyReused: the key came before with another mailbox or `count_max`.
        AcknowledgementRefused: the reader acknowledges another page than the one in its hand.
        TooManyReaders: this one is new, and there is no room for it.
        SettingChanged: the application, or the pair that let the call in, is no longer as `live`
            knows it; nothing happened.
        ReplayRefused: the application is strict, and this came before.
        StoreUnavailable: nothing happened; trying again can help. CallerGone: nor is there need.
        OutcomeUnknown: it may have happened; do not answer.
    """
    return await store.pull(
        Pull(
            live.mailboxes[kind],
            count_max if repeat.takes else 0,
            now_ms,
            address,
            repeat.key,
            proof,
            once if live.application.strict else None,
            live.while_set,
            live.application.former,
            ticket,
            repeat.reader,
            live.while_proven,
        ),
        gone,
    )
