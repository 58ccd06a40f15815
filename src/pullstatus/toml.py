"""TOML that somebody has written by hand, read; what is wrong with it is said for people."""

from __future__ import annotations

import tomllib
from typing import Any

__all__ = ["members"]


def members(text: str) -> dict[str, Any]:
    """What a text says.

    Raises:
        ValueError: it is no TOML; why, and where that is known.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError:  # of Python, about its own integers
        raise ValueError("a number in it has thousands of digits") from None
