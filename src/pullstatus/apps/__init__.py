"""Applications and tokens: who may pull, who may feed, under which conditions.

Both live in the store as settings, so that commands and a running server see the same: `values`
says what they are, `administration` makes and changes them for an `operator`, `registry` is a
server's copy of them, by which `admission` lets a call in, whatever face it came by.
Clock and random source are passed in. This room must not know HTTP or how a store keeps what it is
given.
"""

from pullstatus.apps.administration import (
    Standing,
    Wanted,
    applications,
    change_application,
    create_application,
    create_token,
    delete_application,
    drop_key,
    import_applications,
    revoke_token,
    rotate_key,
    standing,
    standings,
    tokens,
)
from pullstatus.apps.operator import Operator
from pullstatus.apps.registry import LiveApplication, Registry
from pullstatus.apps.values import (
    AppKey,
    Application,
    Token,
    check_name,
    check_networks,
    read_setting,
    token_digest,
)

__all__ = [
    "AppKey",
    "Application",
    "LiveApplication",
    "Operator",
    "Registry",
    "Standing",
    "Token",
    "Wanted",
    "applications",
    "change_application",
    "check_name",
    "check_networks",
    "create_application",
    "create_token",
    "delete_application",
    "drop_key",
    "import_applications",
    "read_setting",
    "revoke_token",
    "rotate_key",
    "standing",
    "standings",
    "token_digest",
    "tokens",
]
