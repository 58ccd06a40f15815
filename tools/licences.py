"""The licences of what the program runs on, as each package states its own."""

from __future__ import annotations

import contextlib
import re
from importlib import metadata
from pathlib import Path
from typing import Final

PINNED: Final = Path(__file__).parents[1] / "requirements/run.txt"
_CLASSIFIER: Final = "License :: OSI Approved :: "


def licences() -> dict[str, str]:
    """By package, in order; some are for other systems only, and not here."""
    found = {}
    for name in sorted(re.findall(r"(?m)^([\w.-]+)==", PINNED.read_text(encoding="utf-8"))):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = _stated(metadata.metadata(name))
    return found


def table() -> str:
    """The same for a page."""
    rows = [f"| `{name}` | {licence} |" for name, licence in licences().items()]
    return "\n".join(["", "| package | licence |", "|---|---|", *rows])


def _stated(about: metadata.PackageMetadata) -> str:
    if expressions := about.get_all("License-Expression"):
        return ", ".join(expressions)
    classifiers = [
        line.removeprefix(_CLASSIFIER)
        for line in about.get_all("Classifier") or []
        if line.startswith(_CLASSIFIER)
    ]
    return ", ".join(classifiers or about.get_all("License") or ["not stated"])
