"""Whose a record is that came with a platform's token: ordered rules, of which the first decides.

    token, source, number, to, id  ->  rule, rule, rule ...  ->  an application; parked; dropped

Nothing is guessed. What no rule matches is nobody's, and parked; so is what a rule gives to an
application that is gone, or has another owner since: no rule behind it gets that. The rules are one
setting, which commands change as a whole (`pullstatus.apps.rules`).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.apps.values import (
    Application,
    as_set,
    check_plain_name,
    check_sdkappid,
    decoded,
)
from pullstatus.errors import InvalidSetting

WHOLE_DIGITS_MIN: Final = 10  # of a number behind 00; a shorter one is a short code that begins so
NATIONCODE: Final = re.compile(r"[1-9][0-9]{0,3}")

_CONDITIONS: Final = ("to", "to_prefix", "id_prefix", "from_prefix", "token", "source")
"""Members of a rule that a record is compared with; those first that tell most records apart."""


class Action(enum.Enum):
    """What becomes of what a rule matches.

    ROUTE: it goes to an application. PARK: it waits, as what no rule matches does. DROP: it is
    acknowledged, counted, and stored nowhere.
    """

    ROUTE = "route"
    PARK = "park"
    DROP = "drop"


class Rule(
    msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, forbid_unknown_fields=True
):
    """One rule. It matches what fulfils all of its conditions; an empty one is none.

    Attributes:
        name: by which people know it.
        sdkappid: where it routes to; None: it does not.
        owner: whose application that was when the rule was made: it feeds no other.
        token: condition: the name of the token that a record came with.
        source: the name of the gateway's format.
        to: our number or short code, all of it.
        to_prefix: what that begins with.
        from_prefix: what the handset's number begins with, as the gateway writes it, but without
            its plus or 00.
        id_prefix: what the gateway's id begins with.
        sign: the signature of replies.
        nationcode: the calling code of numbers that come without one; empty: the source's.
        extend: that of replies; None: what stands behind `to_prefix`.
    """

    # Whoever reads a rule with a condition that he does not know must not take it for a wider one.

    name: str
    action: Action = Action.ROUTE
    sdkappid: int | None = None
    owner: str = ""
    token: str = ""
    source: str = ""
    to: str = ""
    to_prefix: str = ""
    from_prefix: str = ""
    id_prefix: str = ""
    sign: str = ""
    nationcode: str = ""
    extend: str | None = None

    @property
    def conditions(self) -> dict[str, str]:
        """Those that it has, by their names."""
        return {name: value for name in _CONDITIONS if (value := getattr(self, name))}


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What rules look at of a record.

    Attributes:
        token: the name of the token that it came with.
        source: the name of the gateway's format.
        number: the handset's, as `bare` has it.
        to: our number or short code, likewise.
        id: the gateway's.
    """

    token: str
    source: str
    number: str
    to: str
    id: str


class Routed(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule says of a record that it matches.

    Attributes:
        rule: its name.
        sdkappid: where the record goes; None: nowhere.
        owner: see `feeds`.
        sign, extend: those of a reply.
        nationcode: the calling code of numbers that come without one; empty: the source's.
    """

    rule: str
    action: Action
    sdkappid: int | None = None
    owner: str = ""
    sign: str = ""
    nationcode: str = ""
    extend: str = ""

    def feeds(self, application: Application) -> bool:
        """Whether it is this application that the record goes to, as that is owned now."""
        return (
            self.action is Action.ROUTE
            and self.sdkappid == application.sdkappid
            and self.owner == application.owner
        )


class Verdict(msgspec.Struct, frozen=True):
    """What a rule does with a record, and why.

    Attributes:
        place: that of the rule, from 1.
        takes: it is the one that decides.
        why: which of its conditions is not fulfilled, or which rule comes before it.
    """

    place: int
    rule: Rule
    takes: bool
    why: str


class Rules:
    """Rules in their order, ready to be asked.

    A rule is looked at only where one of its conditions is fulfilled, so that it does not matter
    how many there are for other numbers.
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        """Take them as they are; see `check_rules`."""
        self._rules = tuple(rules)
        self._places: dict[tuple[str, str], list[int]] = {}
        lengths: dict[str, set[int]] = {}
        for place, rule in enumerate(self._rules):
            name, value = next(iter(rule.conditions.items()))
            self._places.setdefault((name, value), []).append(place)
            lengths.setdefault(name, set()).add(len(value))
        self._lengths = {name: tuple(found) for name, found in lengths.items()}

    def __iter__(self) -> Iterator[Rule]:
        """Each, in order."""
        return iter(self._rules)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._rules)

    def first(self, traits: Traits) -> Rule | None:
        """The first that matches, if any does."""
        found = len(self._rules)
        for name, lengths in self._lengths.items():
            text = getattr(traits, _TRAITS[name])
            for length in lengths if name in _PREFIXES else (len(text),):
                for place in self._places.get((name, text[:length]), ()):
                    if place >= found:
                        break
                    if _unfulfilled(self._rules[place], traits) is None:
                        found = place
        return self._rules[found] if found < len(self._rules) else None


_TRAITS: Final = {
    "to": "to",
    "to_prefix": "to",
    "id_prefix": "id",
    "from_prefix": "number",
    "token": "token",
    "source": "source",
}  # which of a record each condition is compared with
_WORDS: Final = {
    "to": "our number is not",
    "to_prefix": "our number does not begin with",
    "id_prefix": "the id does not begin with",
    "from_prefix": "the number does not begin with",
    "token": "the token is not",
    "source": "the source is not",
}  # why it does not match; nothing of what the record says
_PREFIXES: Final = {name for name in _CONDITIONS if name.endswith("_prefix")}


def traits_of(*, token: str, source: str, number: str, to: str, id: str) -> Traits:  # noqa: A002
    """What rules look at, of what a gateway has sent."""
    return Traits(token=token, source=source, number=bare(number), to=bare(to), id=id)


def bare(number: str) -> str:
    """A number without what stands before its calling code: a plus, or 00 before many digits."""
    number = number.strip()  # a plus that was not encoded comes as a blank
    if number.startswith("+"):
        return number[1:]
    whole = number.startswith("00") and number.isdigit() and len(number) >= WHOLE_DIGITS_MIN
    return number[2:] if whole else number


def first(
    rules: Rules,
    *,
    token: str,
    source: str,
    number: str,
    to: str,
    id: str,  # noqa: A002 - its name in every report
) -> Routed | None:
    """What the first rule that matches says; None: none does.

    Args:
        token: the name of the token that it came with.
        source: the name of the gateway's format.
        number: the handset's, as the gateway has it.
        to: our number or short code, likewise.
        id: the gateway's.
    """
    traits = traits_of(token=token, source=source, number=number, to=to, id=id)
    rule = rules.first(traits)
    return None if rule is None else routed(rule, traits)


def routed(rule: Rule, traits: Traits) -> Routed:
    """What a rule says of a record that it matches."""
    extend = rule.extend
    if extend is None:
        extend = traits.to.removeprefix(rule.to_prefix) if rule.to_prefix else ""
    return Routed(
        rule=rule.name,
        action=rule.action,
        sdkappid=rule.sdkappid,
        owner=rule.owner,
        sign=rule.sign,
        nationcode=rule.nationcode,
        extend=extend,
    )


def explain(rules: Rules, traits: Traits) -> list[Verdict]:
    """What each rule does with a record, and why; at most one takes it."""
    verdicts: list[Verdict] = []
    taken: Rule | None = None
    for place, rule in enumerate(rules, 1):
        wrong = _unfulfilled(rule, traits)
        takes = wrong is None and taken is None
        if wrong is not None:
            why = f"{_WORDS[wrong]} {getattr(rule, wrong)}"
        elif taken is not None:
            why = f"{taken.name} stands before it"
        else:
            why, taken = "all that it asks for is so", rule
        verdicts.append(Verdict(place, rule, takes, why))
    return verdicts


def _unfulfilled(rule: Rule, traits: Traits) -> str | None:
    """The first condition of a rule that a record does not fulfil; None: it matches."""
    # On the path of each record: no loop over names.
    if rule.to and rule.to != traits.to:
        return "to"
    if rule.to_prefix and not traits.to.startswith(rule.to_prefix):
        return "to_prefix"
    if rule.id_prefix and not traits.id.startswith(rule.id_prefix):
        return "id_prefix"
    if rule.from_prefix and not traits.number.startswith(rule.from_prefix):
        return "from_prefix"
    if rule.token and rule.token != traits.token:
        return "token"
    if rule.source and rule.source != traits.source:
        return "source"
    return None


def unreachable(rules: Sequence[Rule]) -> dict[str, str]:
    """Rules that nothing comes to, by name, and the one before each that takes all of it.

    What several rules take together is not seen.
    """
    found = {}
    for place, rule in enumerate(rules):
        before = next((each for each in rules[:place] if _covers(each, rule)), None)
        if before is not None:
            found[rule.name] = before.name
    return found


def _covers(one: Rule, other: Rule) -> bool:
    """Whether a rule matches all that another one matches."""
    return (
        one.to in ("", other.to)
        and (other.to or other.to_prefix).startswith(one.to_prefix)
        and other.from_prefix.startswith(one.from_prefix)
        and other.id_prefix.startswith(one.id_prefix)
        and one.token in ("", other.token)
        and one.source in ("", other.source)
    )


def read_rules(name: str, value: bytes) -> Rules:
    """The setting of rules; proven, since records go where it says.

    Raises:
        StoreCorrupt: it is not what was set.
    """
    rules = decoded(name, value, _decode)
    with as_set(name):
        check_rules(rules)
    return Rules(rules)


def check_rules(rules: Sequence[Rule]) -> None:
    """Refuse rules that cannot be, each by its name.

    Raises:
        InvalidSetting: a member, or their number, is out of bounds; two have one name.
    """
    if len(rules) > limits.RULES_MAX:
        raise InvalidSetting(f"there are at most {limits.RULES_MAX} rules")
    names: set[str] = set()
    for rule in rules:
        check_rule(rule)
        if rule.name in names:
            raise InvalidSetting(f"a rule named {rule.name} exists; choose another name")
        names.add(rule.name)


def check_rule(rule: Rule) -> Rule:
    """The rule itself, if it can be one.

    Raises:
        InvalidSetting: a member is out of bounds; it is named.
    """
    check_plain_name("a rule's", rule.name)
    if (rule.action is Action.ROUTE) != (rule.sdkappid is not None):
        raise InvalidSetting("a rule routes to an application, or parks, or drops")
    if rule.sdkappid is not None:
        check_sdkappid(rule.sdkappid)
    if not rule.conditions:
        raise InvalidSetting(
            "a rule says what it is for: a token, a source, to, to_prefix, from_prefix or id_prefix"
        )
    if rule.to and rule.to_prefix:
        raise InvalidSetting("a rule has to or to_prefix, not both")
    for name, value in {**rule.conditions, "sign": rule.sign, "extend": rule.extend or ""}.items():
        if len(value) > limits.RULE_CHARS_MAX or not value.isprintable():
            raise InvalidSetting(f"{name} is up to {limits.RULE_CHARS_MAX} printable characters")
    if rule.token:
        check_plain_name("a token's", rule.token)
    for name in ("to", "to_prefix", "from_prefix"):
        value = getattr(rule, name)
        if bare(value) != value or value.startswith("00"):
            raise InvalidSetting(f"{name} is written without blanks around it, plus or 00")
    if rule.from_prefix and not (rule.from_prefix.isascii() and rule.from_prefix.isdigit()):
        raise InvalidSetting("from_prefix is digits, its calling code in front")
    if rule.nationcode and NATIONCODE.fullmatch(rule.nationcode) is None:
        raise InvalidSetting("nationcode is a calling code of 1 to 4 digits, without plus or 00")
    return rule


_decode: Final = msgspec.json.Decoder(tuple[Rule, ...]).decode
