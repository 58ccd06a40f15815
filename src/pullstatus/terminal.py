"""Text that others wrote, on a terminal: shown, and never obeyed."""

from __future__ import annotations

import re
from typing import Final

STEERING: Final = re.compile(
    "[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f"  # controls; escape sequences begin with one. Not LF
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # directions
    "\\u200b\\u2028\\u2029\\u2060-\\u2064\\ufeff\\ufff9-\\ufffb"  # unseen ones
    "\\ud800-\\udfff]"  # what no encoding can say: bytes of a file name that are no text
)


def visible(text: str) -> str:
    r"""`text` with what would steer a terminal, or hide in it, spelt out as in JSON: \u001b.

    So it is still the same JSON, if it was JSON.
    """
    return STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
