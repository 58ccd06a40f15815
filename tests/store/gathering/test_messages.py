"""What a server's process and that of its store say to each other means the same at both ends."""

from __future__ import annotations

import enum
import functools
import operator
import types
import typing
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.errors import KeyReused, StoreFull
from pullstatus.store.gathering import messages
from pullstatus.store.gathering.committer import Report
from pullstatus.store.gathering.log import Figures
from pullstatus.store.gathering.operations import Answer, Sent
from pullstatus.store.values import Mailbox
from tests.store.build import STATUSES, pull

PLAIN: dict[object, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    str: st.text(),
    bytes: st.binary(),
    type(None): st.none(),
}


@functools.cache
def anything(kind: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401 - any type
    """Any value of this type."""
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case types.UnionType | typing.Union:
            return functools.reduce(operator.or_, map(anything, arguments))
        case origin if origin is list or origin is frozenset:
            items = st.lists(anything(arguments[0]), max_size=3)
            return items if origin is list else items.map(frozenset)
        case origin if origin is tuple and arguments[-1] is ...:
            return st.lists(anything(arguments[0]), max_size=3).map(tuple)
        case origin if origin is tuple:
            return st.tuples(*map(anything, arguments))
    if kind is Mailbox:
        return st.builds(Mailbox, anything(int), st.integers(0, 2))
    if issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return st.builds(kind, **{each.name: anything(each.type) for each in fields})
    if issubclass(kind, tuple):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{name: anything(hint) for name, hint in hints.items()})
    return st.sampled_from(kind) if issubclass(kind, enum.Enum) else PLAIN[kind]


@pytest.mark.parametrize("kind", typing.get_args(Sent))
@given(st.data())
def test_an_operation_comes_as_it_went(kind: type[Any], data: st.DataObject) -> None:
    sent = data.draw(st.lists(anything(kind), max_size=2))  # type: ignore[arg-type] # hashable
    come = messages.read_asked(memoryview(messages.ask(sent)))
    assert come == sent
    assert [type(each) for each in come] == [kind] * len(sent)


ANSWERS = [each for each in typing.get_args(Answer) if not issubclass(each, Exception)]


@given(
    st.lists(anything(functools.reduce(operator.or_, ANSWERS)), max_size=5),
    st.dictionaries(anything(int), anything(int), max_size=3),
    st.none() | st.binary(),
    st.booleans(),
)
def test_a_report_comes_as_it_went(
    answers: list[Any], waiting: dict[int, int], as_of: bytes | None, room: bool
) -> None:
    sent = Report(answers, waiting, as_of, room, Figures(3, 0.5, 7), None)
    come = messages.read_told(memoryview(messages.tell(sent)))
    assert come == sent
    assert isinstance(come, Report)
    assert [type(answer) for answer in come.answers] == [type(answer) for answer in answers]


def test_errors_come_as_they_were_raised() -> None:
    report = Report([1, KeyReused("so"), True], {}, None, True, Figures(0, 0, 0), StoreFull("full"))
    come = messages.read_told(messages.tell(report))
    assert isinstance(come, Report)
    one, error, other = come.answers
    assert (one, type(error), str(error), other) == (1, KeyReused, "so", True)
    assert (type(come.failure), str(come.failure)) == (StoreFull, "full")
    raised = messages.read_told(messages.tell(StoreFull("full")))
    assert (type(raised), str(raised)) == (StoreFull, "full")


def test_a_log_is_opened_as_was_said_and_an_end_is_one() -> None:
    opened = messages.read_asked(messages.ask_to_open(partial(int, "7")))  # type: ignore[arg-type]
    assert callable(opened)
    assert typing.cast("Any", opened)() == 7
    assert messages.read_asked(messages.END) is None


@pytest.mark.parametrize("odd", ["\ud800", "a\udfff", 2**64, -(2**63) - 1])
def test_what_messagepack_cannot_say_comes_through(odd: str | int) -> None:
    member = {"key": odd} if isinstance(odd, str) else {"at_ms": odd}
    operations = [pull(STATUSES), msgspec.structs.replace(pull(STATUSES), **member)]
    assert messages.read_asked(messages.ask(operations)) == operations


def test_what_has_no_form_is_not_sent() -> None:
    with pytest.raises(TypeError):
        messages.ask([object()])  # type: ignore[list-item]
