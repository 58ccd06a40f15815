"""What the headers of a pull may say."""

from __future__ import annotations

import pytest

from pullstatus import limits
from pullstatus.errors import InvalidSetting
from pullstatus.server.words import check_key


@pytest.mark.parametrize("key", ["k", "!", "~", "x" * limits.IDEMPOTENCY_KEY_CHARS_MAX])
def test_a_key_is_visible_ascii(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key", ["", " ", "a b", "\x7f", "\u00e9", "k\n", "x" * (limits.IDEMPOTENCY_KEY_CHARS_MAX + 1)]
)
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidSetting, match="visible ASCII"):
        check_key(key)
