"""Applications and tokens: who may pull, who may feed, under which conditions.

Both live in the store as settings, so that commands and a running server see the same: `values`
says what they are, `administration` makes and changes them, `registry` is a server's copy of them.
Clock and random source are passed in. This room must not know HTTP or how a store keeps what it is
given.
"""

from pullstatus.apps.administration import (
    applications,
    change_application,
    create_application,
    create_token,
    delete_application,
    revoke_token,
    rotate_key,
    tokens,
)
from pullstatus.apps.registry import Live, Registry
from pullstatus.apps.values import AppKey, Application, Token, check_networks, token_digest

__all__ = [
    "AppKey",
    "Application",
    "Live",
    "Registry",
    "Token",
    "applications",
    "change_application",
    "check_networks",
    "create_application",
    "create_token",
    "delete_application",
    "revoke_token",
    "rotate_key",
    "token_digest",
    "tokens",
]
