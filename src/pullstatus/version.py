"""Which version this is, as the installation says."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

__all__ = ["VERSION"]


def _installed() -> str:
    try:
        return version("pullstatus")
    except PackageNotFoundError:  # source that was put on the path, or frozen into a program
        return "0"


VERSION: Final = _installed()
