"""Made-up records for the demonstration: plausible to read, and nobody's.

Pure: chance and clock are passed in. The numbers are the placeholder of the documented examples
(13800000...) and those that the United States and the United Kingdom keep for films (555-01xx and
7700 900xxx); the codes and their meanings are documented ones.
"""

from __future__ import annotations

import random
import string
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from pullstatus.records import DeliveryStatus, Reply

UTC8: Final = timezone(timedelta(hours=8))

DELIVERED_SHARE: Final = 0.86
FAILURES: Final = (  # a code, what it means, and how often it comes compared with the others
    ("MK:0001", "number does not exist", 5),
    ("UNDELIV", "suspended or off", 5),
    ("MI:0024", "suspended or off", 3),
    ("-37", "switched off", 2),
    ("MK:0010", "out of reach", 3),
    ("EXPIRED", "no answer in time", 4),
    ("UNDELIV_601", "suspended or off", 2),
    ("MB:1031", "no room on the handset", 1),
    ("MOBILE BLACK", "on the carrier's blacklist", 1),
    ("MX:0003", "too many to this number", 1),
    ("REJECTD", "refused by the carrier", 1),
)
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
    received = datetime.fromtimestamp(now_s - chance.randrange(1, 9), UTC8)
    nationcode, mobile = _number(chance)
    delivered = chance.random() < DELIVERED_SHARE
    if delivered:
        code, meaning = "DELIVRD", "delivered"
    else:
        [(code, meaning, _)] = chance.choices(FAILURES, [share for _, _, share in FAILURES])
    unique = "".join(chance.choices(string.ascii_letters + string.digits, k=19))
    return DeliveryStatus(
        user_receive_time=received.strftime("%Y-%m-%d %H:%M:%S"),
        nationcode=nationcode,
        mobile=mobile,
        report_status="SUCCESS" if delivered else "FAIL",
        errmsg=code,
        description=meaning,
        sid=f"8:{unique}{datetime.fromtimestamp(now_s, UTC):%Y%m%d}",
    )


def made_up_reply(chance: random.Random, now_s: int) -> Reply:
    """Return a reply that somebody could have written just now, in Chinese or English."""
    nationcode, mobile = _number(chance)
    chinese = nationcode == "86"
    return Reply(
        nationcode=nationcode,
        mobile=mobile,
        text=chance.choice(CHINESE if chinese else ENGLISH),
        sign=CHINESE_SIGN if chinese else ENGLISH_SIGN,
        time=now_s - chance.randrange(1, 9),
        # Two equal replies would be taken for one that was sent twice.
        extend=f"{chance.randrange(10_000):04}",
    )


def _number(chance: random.Random) -> tuple[str, str]:
    country = chance.random()
    if country < 0.6:
        return "86", f"13800000{chance.randrange(1000):03}"
    if country < 0.8:
        return "1", f"20255501{chance.randrange(100):02}"
    return "44", f"7700900{chance.randrange(1000):03}"
