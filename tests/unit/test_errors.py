"""The error tree: stable codes, one fault each, and texts that say where."""

import pickle

import pytest

from pullstatus import errors
from pullstatus.errors import (
    CallerError,
    InvalidRecord,
    PeerError,
    PullstatusError,
    Refused,
    StoreUnavailable,
    WorldError,
)

TREE = [getattr(errors, name) for name in errors.__all__]


def test_every_error_is_in_the_tree_under_one_fault() -> None:
    """Each class is the root or below exactly one of peer, caller and world."""
    for error in TREE:
        assert issubclass(error, PullstatusError)
        faults = [
            fault for fault in (PeerError, CallerError, WorldError) if issubclass(error, fault)
        ]
        assert len(faults) == (error is not PullstatusError)


def test_every_code_is_its_own() -> None:
    """Codes go into tables and logs, so no two classes share one."""
    codes = [error.code for error in TREE]
    assert len(set(codes)) == len(codes)


def test_trying_again_helps_only_when_nothing_happened() -> None:
    """An unknown outcome must not look like something to repeat."""
    assert StoreUnavailable.retry_can_help
    assert not errors.OutcomeUnknown.retry_can_help
    assert not Refused.retry_can_help


def test_every_class_is_drawn_at_the_top() -> None:
    """The picture in the module's docstring is complete."""
    assert errors.__doc__
    for name in errors.__all__:
        assert name in errors.__doc__


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InvalidRecord("sid", "must be a string"), "sid must be a string"),
        (InvalidRecord("sid", "must be a string", 3), "record 3: sid must be a string"),
        (InvalidRecord("sid", "must be a string").at(0), "record 0: sid must be a string"),
        (Refused(1001, "sig does not match"), "1001: sig does not match"),
    ],
)
def test_text_says_what_and_where(error: PullstatusError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize("error", [InvalidRecord("sid", "is missing", 3), Refused(1001, "no")])
def test_errors_with_parts_survive_pickling(error: PullstatusError) -> None:
    """Worker processes hand errors over."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)
