"""Applications and tokens: who may pull, who may feed, under which conditions.

Both live in the store as settings, so that commands and a running server see the same: `values`
says what they are, `administration` makes and changes them for an `operator`, `registry` is a
server's copy of them, by which `admission` lets a call in, whatever face it came by. Appkeys are
stored under `sealing`, with the keys of `masters`, which `wrapping` exchanges. `erasure` lets
records go for good.

Clock and random source are passed in, but to `masters`, which makes files. This room must not know
HTTP or how a store keeps what it is given.
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
    existing,
    import_applications,
    revoke_token,
    rotate_key,
    standing,
    standings,
    tokens,
)
from pullstatus.apps.erasure import erase_application
from pullstatus.apps.masters import Command, GivenFile, Masters, OwnFile, masters_beside
from pullstatus.apps.operator import Operator
from pullstatus.apps.registry import LiveApplication, Registry
from pullstatus.apps.sealing import END_CHARS, Keyring, MasterKey
from pullstatus.apps.traces import mark as mark_traces
from pullstatus.apps.traces import rewrite_if_due
from pullstatus.apps.values import (
    AppKey,
    Application,
    Token,
    check_name,
    check_networks,
    read_setting,
    token_digest,
)
from pullstatus.apps.wrapping import (
    MasterKeyState,
    begin_anew,
    check_opens,
    master_keys,
    open_keyring,
    rewrap,
    seal_readable,
)

__all__ = [
    "END_CHARS",
    "AppKey",
    "Application",
    "Command",
    "GivenFile",
    "Keyring",
    "LiveApplication",
    "MasterKey",
    "MasterKeyState",
    "Masters",
    "Operator",
    "OwnFile",
    "Registry",
    "Standing",
    "Token",
    "Wanted",
    "applications",
    "begin_anew",
    "change_application",
    "check_name",
    "check_networks",
    "check_opens",
    "create_application",
    "create_token",
    "delete_application",
    "drop_key",
    "erase_application",
    "existing",
    "import_applications",
    "mark_traces",
    "master_keys",
    "masters_beside",
    "open_keyring",
    "read_setting",
    "revoke_token",
    "rewrap",
    "rewrite_if_due",
    "rotate_key",
    "seal_readable",
    "standing",
    "standings",
    "token_digest",
    "tokens",
]
