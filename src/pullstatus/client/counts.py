"""What statistics tell: how many SMS were sent, and what carriers have reported."""

from __future__ import annotations

import msgspec

__all__ = ["Sends", "Statistics"]


class Sends(msgspec.Struct, frozen=True):
    """How many SMS were asked for, taken, and billed."""

    requests: int
    accepted: int
    billed: int


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of some hours. A pullstatus server counts a receipt in the hour of its acceptance.

    Attributes:
        receipts: delivery statuses that came in.
        delivered: how many of them say that the SMS arrived.
        failed_carrier: failed inside the carrier, was rejected, or for an unknown reason.
        failed_number: the number is nobody's.
        failed_handset: suspended, switched off, out of reach, full.
        failed_blacklist: unsubscribed, or on a blacklist.
        failed_frequency: too many to one number.
        requests: SMS that senders asked for; None if the service was told of no sends.
        accepted: how many of them were taken; None likewise.
        billed: parts that are billed; None likewise.
    """

    receipts: int
    delivered: int
    failed_carrier: int
    failed_number: int
    failed_handset: int
    failed_blacklist: int
    failed_frequency: int
    requests: int | None = None
    accepted: int | None = None
    billed: int | None = None

    @property
    def failed(self) -> int:
        """How many receipts say that the SMS did not arrive: the five `failed_...` together."""
        return (
            self.failed_carrier
            + self.failed_number
            + self.failed_handset
            + self.failed_blacklist
            + self.failed_frequency
        )
