"""By what a page comes again: what `Idempotency-Key` and `Pullstatus-Reader` may hold.

Source: protocol.md section 7.
"""

from __future__ import annotations

import re
from typing import Final

from pullstatus import limits

__all__ = ["KEY", "READER"]

KEY: Final = re.compile(rf"[\x21-\x7e]{{1,{limits.IDEMPOTENCY_KEY_CHARS_MAX}}}")
READER: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{limits.READER_CHARS_MAX}}}")
