"""What is wrong with TOML is said for people who wrote it."""

from __future__ import annotations

import pytest

from pullstatus import toml


def test_toml_is_read() -> None:
    assert toml.members('a = 1\n[b]\nc = "x"') == {"a": 1, "b": {"c": "x"}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = \n", "line 1"),
        (f"a = {'[' * 100_000}", "nested too deep"),
        (f"a = {'9' * 6000}", "thousands of digits"),
    ],
)
def test_what_is_wrong_is_said(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        toml.members(text)
    assert "sys." not in str(caught.value)
