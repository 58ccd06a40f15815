"""How a reply is known again that tells neither an id nor a time: for minutes.

Its bytes are all there is to know it by, and people write the same text again. So the step of time
in which it came goes into its digest. A repeat may come in the next step, or be seen by a clock
that is a little behind: hence where it is new it is known by the steps on either side, too. By the
time of its arrival it is known alike whenever it is looked at, be it after days aside.
"""

from __future__ import annotations

from hashlib import blake2b

from pullstatus import limits

__all__ = ["known_briefly"]


def known_briefly(digest: bytes, arrived_s: int) -> bytes:
    """Three digests of 16 bytes, as `store.Fingerprints` has them.

    Args:
        digest: of 16 bytes, of all that is equal in a repeat.
        arrived_s: when it came.
    """
    step = arrived_s // limits.BRIEF_REPEAT_S
    return b"".join(
        blake2b(b"%d" % each, key=digest, digest_size=16).digest()
        for each in (step, step - 1, step + 1)
    )
