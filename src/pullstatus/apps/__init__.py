"""Applications, tokens, secret key pairs: who may pull, who may feed, under which conditions.

They live in the store as settings, so that commands and a running server see the same: `values`
says what they are, `administration`, `appkeys`, `tokens` and `pairs` make and change them for an
`operator`, `registry` is a server's copy of them, by which `admission` lets a call in, whatever
face it came by. Appkeys and secret keys are stored under `sealing`, with the keys of `masters`,
which `wrapping` exchanges. `routing` is the rules that say whose a record is, which `rules`
changes; `settings` proves whatever a store keeps of all this. `erasure` lets records go for good.

Clock and random source are passed in, but to `masters`, which makes files. This room must not know
HTTP or how a store keeps what it is given.
"""

from pullstatus.apps.administration import (
    Standing,
    Wanted,
    applications,
    change_application,
    create_application,
    delete_application,
    existing,
    import_applications,
    standing,
    standings,
)
from pullstatus.apps.appkeys import drop_key, rotate_key
from pullstatus.apps.erasure import erase_application
from pullstatus.apps.masters import Command, GivenFile, Masters, OwnFile, masters_beside
from pullstatus.apps.operator import Operator
from pullstatus.apps.pairs import (
    PairStanding,
    change_pair,
    create_pair,
    pair_standing,
    pairs,
    revoke_pair,
)
from pullstatus.apps.registry import LiveApplication, LivePair, Registry, stored_application
from pullstatus.apps.rules import (
    RuleStanding,
    add_rule,
    move_rule,
    remove_rule,
    rule_standings,
    rules,
)
from pullstatus.apps.sealing import END_CHARS, Keyring, MasterKey
from pullstatus.apps.settings import read_setting
from pullstatus.apps.sources import add_source, remove_source, source_text, sources
from pullstatus.apps.tokens import create_token, revoke_token, set_signature_key, tokens
from pullstatus.apps.traces import is_due as rewrite_is_due
from pullstatus.apps.traces import mark as mark_traces
from pullstatus.apps.traces import rewrite_if_due
from pullstatus.apps.values import (
    AppKey,
    Application,
    Grant,
    Purpose,
    SecretPair,
    Token,
    check_name,
    check_networks,
    token_digest,
)
from pullstatus.apps.wrapping import (
    MasterKeyState,
    Shut,
    begin_anew,
    check_opens,
    master_keys,
    open_keyring,
    rewrap,
    seal_readable,
    shut_keys,
)

__all__ = [
    "END_CHARS",
    "AppKey",
    "Application",
    "Command",
    "GivenFile",
    "Grant",
    "Keyring",
    "LiveApplication",
    "LivePair",
    "MasterKey",
    "MasterKeyState",
    "Masters",
    "Operator",
    "OwnFile",
    "PairStanding",
    "Purpose",
    "Registry",
    "RuleStanding",
    "SecretPair",
    "Shut",
    "Standing",
    "Token",
    "Wanted",
    "add_rule",
    "add_source",
    "applications",
    "begin_anew",
    "change_application",
    "change_pair",
    "check_name",
    "check_networks",
    "check_opens",
    "create_application",
    "create_pair",
    "create_token",
    "delete_application",
    "drop_key",
    "erase_application",
    "existing",
    "import_applications",
    "mark_traces",
    "master_keys",
    "masters_beside",
    "move_rule",
    "open_keyring",
    "pair_standing",
    "pairs",
    "read_setting",
    "remove_rule",
    "remove_source",
    "revoke_pair",
    "revoke_token",
    "rewrap",
    "rewrite_if_due",
    "rewrite_is_due",
    "rotate_key",
    "rule_standings",
    "rules",
    "seal_readable",
    "set_signature_key",
    "shut_keys",
    "source_text",
    "sources",
    "standing",
    "standings",
    "stored_application",
    "token_digest",
    "tokens",
]
