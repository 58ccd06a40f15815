"""Made-up records for the demonstration: plausible to read, and nobody's.

Pure: chance and clock are passed in. Numbers, codes and ids are those that the emulator draws from.
"""

from __future__ import annotations

import random
from typing import Final

from pullstatus.emulator import carriers
from pullstatus.emulator.carriers import DELIVERED
from pullstatus.records import DeliveryStatus, Reply

DELIVERED_SHARE: Final = 0.86
FAILURES: Final = {  # codes, and how often each comes compared with the others
    "MK:0001": 5,
    "UNDELIV": 5,
    "MI:0024": 3,
    "-37": 2,
    "MK:0010": 3,
    "EXPIRED": 4,
    "UNDELIV_601": 2,
    "MB:1031": 1,
    "MOBILE BLACK": 1,
    "MX:0003": 1,
    "REJECTD": 1,
}
CHINESE: Final = (
    "TD",
    "1",
    "收到，谢谢",
    "好的 👍",
    "确认",
    "请改到明天下午三点",
    "快递放门口就行",
    "退订回T",
)
ENGLISH: Final = (
    "STOP",
    "Yes",
    "Thanks, got it",
    "Confirmed 👍",
    "Please call me back",
    "Can we make it 3 pm tomorrow?",
    "Leave it at the door, please",
    'What does "E17" mean?',
)
CHINESE_SIGN: Final = "示例科技"
ENGLISH_SIGN: Final = "Example Ltd"


def made_up_status(chance: random.Random, now_s: int) -> DeliveryStatus:
    """Return a delivery status that a carrier could have reported just now."""
    code = DELIVERED
    if chance.random() >= DELIVERED_SHARE:
        [code] = chance.choices(list(FAILURES), list(FAILURES.values()))
    return carriers.make_status(
        carriers.receipt_of(code),
        *carriers.made_up_number(chance),
        carriers.make_sid(chance, now_s),
        now_s - chance.randrange(1, 9),
    )


def made_up_reply(chance: random.Random, now_s: int) -> Reply:
    """Return a reply that somebody could have written just now, in Chinese or English."""
    nationcode, mobile = carriers.made_up_number(chance)
    chinese = nationcode == "86"
    return carriers.make_reply(
        chance.choice(CHINESE if chinese else ENGLISH),
        nationcode,
        mobile,
        CHINESE_SIGN if chinese else ENGLISH_SIGN,
        now_s - chance.randrange(1, 9),
        # Two equal replies would be taken for one that was sent twice.
        extend=f"{chance.randrange(10_000):04}",
    )
