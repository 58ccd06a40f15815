"""The public names: these and no others, each where it says it is."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import subprocess
import sys

import pytest

import pullstatus
from pullstatus.client import counts, drivers, errors, pages, records

HOME = {
    "client.counts": counts.__all__,
    "client.drivers": drivers.__all__,
    "client.errors": errors.__all__,
    "client.pages": pages.__all__,
    "client.records": records.__all__,
}
INTERNAL = {  # public within the package only
    "Record",
    "Sends",
    "UTC8",
    "drive",
    "drive_async",
    "read_record",
    "unix_time",
}


def test_all_is_exact() -> None:
    """What the client's rooms offer, `Kind` and the root of the errors: nothing more or less."""
    offered = {name for names in HOME.values() for name in names} - INTERNAL
    assert set(pullstatus.__all__) == offered | {"Kind", "PullstatusError"}
    assert list(pullstatus.__all__) == sorted(pullstatus.__all__)


@pytest.mark.parametrize("name", pullstatus.__all__)
def test_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(pullstatus, name)
    assert inspect.isclass(value)
    assert value.__name__ == name
    assert inspect.getdoc(value)
    assert getattr(importlib.import_module(value.__module__), name) is value


def test_names_that_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = pullstatus.Nothing  # type: ignore[attr-defined]
    for name in INTERNAL:
        assert not hasattr(pullstatus, name)


def test_version_is_the_installed_one() -> None:
    assert pullstatus.__version__ == importlib.metadata.version("pullstatus")


def test_dir_lists_the_names_and_star_brings_them() -> None:
    assert set(pullstatus.__all__) <= set(dir(pullstatus))
    found: dict[str, object] = {}
    exec("from pullstatus import *", found)
    assert set(pullstatus.__all__) <= set(found)


@pytest.mark.anew
def test_import_alone_loads_no_http_client() -> None:
    """The server imports this package for every request's work; it needs no client."""
    code = "import sys, pullstatus, pullstatus.records; sys.exit('httpx' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
