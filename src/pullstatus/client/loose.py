"""Numbers as services write them: as such, as digits, or as an integral float."""

from __future__ import annotations

__all__ = ["count", "integer"]


def integer(value: object) -> int | None:
    """The integer that a member means; None if it means none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return count(value)
    return None


def count(text: str | None) -> int | None:
    """The number that a header or a text of digits means; None if it means none."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 18:
        return None
    return int(text)
