"""Whose a receipt is, by its gateway's id: how an id is found, and what is never guessed."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Coroutine
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.mailbox.names import (
    _DECIMAL,
    Name,
    Told,
    _all_written,
    _hashes,
    _known,
    _same_number,
    _written,
    given_together,
    hash_of,
    names_of,
    namings,
    plain,
)
from pullstatus.receipts.sends import Registered
from pullstatus.store import Named
from tests.harness import slowness
from tests.names import NamesInMemory

APP, OTHER = 1400000001, 1400000002


def found(
    names: NamesInMemory, *told: Told, sdkappid: int | None = None, owner: str | None = None
) -> list[Name | None]:
    return asyncio.run(names_of(names, told, sdkappid=sdkappid, owner=owner))


def sid_of(names: NamesInMemory, name: str, number: str = "") -> str | None:
    [one] = found(names, Told(name, number))
    return None if one is None else one.sid


@pytest.mark.parametrize(
    ("registered", "told"),
    [
        ("7f3A", "7f3A"),
        ("7F3A", "7f3a"),
        ("0007F3A", "7f3a"),
        ("7F3A", "0000007f3a"),
        ("32570", "7F3A"),
        ("7f3a", "0032570"),
        ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("18446744073709551615", "ffffffffffffffff"),
        ("f" * 33, str(16**33 - 1)),  # of 40 digits
        ("0", "000"),
        ("号码", "号码"),
    ],
)
def test_an_id_is_found_however_it_is_written(registered: str, told: str) -> None:
    names = NamesInMemory()
    names.register(APP, Registered("ours", (registered,), "session", "86", "13800000000"))
    [name] = found(names, Told(told))
    assert name == Name(
        APP, "", "ours", "session", "86", "13800000000", 1, 1, hash_of(plain(registered))
    )


def test_what_is_written_alike_comes_before_what_is_spelt_otherwise() -> None:
    names = NamesInMemory()
    for ours in ("AB", "ab", "0ab", "171", "369"):
        names.register(APP, Registered(ours, (ours,)))
    assert [sid_of(names, told) for told in ("AB", "ab", "0ab", "171")] == [
        "AB",
        "ab",
        "0ab",
        "171",
    ]
    assert sid_of(names, "00ab") == "0ab"  # the newest of those that are alike without it


def test_ids_of_one_report_may_be_written_otherwise_each() -> None:
    names = NamesInMemory()
    names.register(APP, *(Registered(ours, (ours,)) for ours in ("aB", "ab", "AB", "0ab")))
    told = ("aB", "ab", "AB", "0ab")
    assert tuple(sid_of(names, each) for each in told) == told


@given(
    st.lists(st.sampled_from(["7", "12", "012", "0", "ab", "AB", "aB", "７"]), min_size=1),
)
def test_how_ids_of_a_block_were_written_is_what_each_was_by_itself(names: list[str]) -> None:
    together = _all_written(names)
    assert together * (len(names) // len(together)) == [*map(_written, names)]


def test_two_ids_in_digits_are_two_unless_both_went_to_one_number() -> None:
    names = NamesInMemory()
    names.register(APP, Registered("twelve", ("12",), "", "86", "13800000001"))
    assert sid_of(names, "18") is None  # 12 in hexadecimal, or another id in its own right
    assert sid_of(names, "18", "8613800000002") is None
    assert sid_of(names, "18", "+8613800000001") == "twelve"


def test_of_an_id_that_several_numbers_share_the_number_decides() -> None:
    names = NamesInMemory()
    for end in "12":
        names.register(APP, Registered(end, ("batch",), "", "86", f"1380000000{end}"))
    assert sid_of(names, "batch", "13800000001") == "1"
    assert sid_of(names, "batch", "+8613800000002") == "2"
    assert sid_of(names, "batch", "13800000003") is None
    assert sid_of(names, "batch") == "2"


def test_what_two_applications_have_registered_is_nobodys() -> None:
    names = NamesInMemory()
    names.register(APP, Registered("ours", ("id",)), owner="we")
    names.register(OTHER, Registered("theirs", ("id",), "", "86", "13800000001"), owner="they")
    assert sid_of(names, "id") is None
    assert sid_of(names, "id", "13800000001") == "theirs"
    [ours] = found(names, Told("id"), sdkappid=APP)
    assert ours is not None
    assert (ours.sid, ours.belongs_to("we"), ours.belongs_to("they")) == ("ours", True, False)


def test_what_is_registered_more_often_than_is_read_is_nobodys() -> None:
    """Whoever registers the id of another over and over hides its name, and takes nothing."""
    names = NamesInMemory()
    ours = Registered("ours", ("4711",), "", "86", "13800000001")
    names.register(APP, ours)
    theirs = Registered("theirs", ("4711",), "", "86", "13800000001")
    for _ in range(limits.NAMES_FOUND_MAX):
        names.register(OTHER, theirs)
    assert sid_of(names, "4711", "13800000001") is None
    for sdkappid, sid in ((APP, "ours"), (OTHER, "theirs")):
        [name] = found(names, Told("4711"), sdkappid=sdkappid)
        assert name is not None
        assert name.sid == sid


def test_what_is_hidden_is_not_found_by_its_other_spelling() -> None:
    names = NamesInMemory()
    for _ in range(limits.NAMES_FOUND_MAX):
        names.register(OTHER, Registered("theirs", ("18",)))
    names.register(OTHER, Registered("theirs", ("24",), "", "86", "13800000001"))
    assert sid_of(names, "18", "13800000001") is None
    assert sid_of(names, "24", "13800000001") == "theirs"


def test_other_ids_of_the_same_slot_hide_a_name_as_well() -> None:
    names = NamesInMemory()
    names.register(APP, Registered("ours", ("4711",)))
    wanted, one = hash_of(4711) >> 32, pow(0x9E3779B97F4A7C15, -1, 1 << 64)
    made = [
        ((wanted << 32 | rest) + (1 << 63)) * one % (1 << 64)
        for rest in range(limits.NAMES_FOUND_MAX)
    ]
    assert {hash_of(plain(str(each))) >> 32 for each in made} == {wanted}
    assert sid_of(names, "4711") == "ours"
    for each in made:
        names.register(OTHER, Registered("theirs", (str(each),)))
    assert sid_of(names, "4711") is None
    assert sid_of(names, str(made[0])) is None


def test_of_numbers_of_two_lengths_the_end_that_both_have_decides() -> None:
    names = NamesInMemory()
    names.register(APP, Registered("short", ("id",), "", "", "8000"))
    names.register(APP, Registered("other", ("id",), "", "86", "13900139001"))
    assert sid_of(names, "id", "13800138000") == "short"
    assert sid_of(names, "id", "9001") == "other"
    names.register(OTHER, Registered("theirs", ("id",), "", "86", "13800138000"))
    assert sid_of(names, "id", "13800138000") is None
    assert sid_of(names, "id", "13900138000") is None
    assert sid_of(names, "id", "13900148000") == "short"


def test_who_has_the_number_of_an_application_next_inherits_no_names() -> None:
    names = NamesInMemory()
    names.register(APP, Registered("before", ("id",)), owner="before")
    assert found(names, Told("id"), sdkappid=APP, owner="now") == [None]
    names.register(APP, Registered("now", ("ID",)), owner="now")
    [name] = found(names, Told("id"), sdkappid=APP, owner="now")
    assert name is not None
    assert name.sid == "now"


def test_parts_of_a_message_have_one_name() -> None:
    names = NamesInMemory()
    names.register(APP, Registered("whole", ("a1", "a2", "a3")))
    each = found(names, Told("a1"), Told("A3"), Told("a4"))
    assert [None if one is None else (one.sid, one.part, one.parts) for one in each] == [
        ("whole", 1, 3),
        ("whole", 3, 3),
        None,
    ]


def test_a_request_is_one_question_if_all_is_known() -> None:
    names = NamesInMemory()
    names.register(APP, *(Registered(f"s{number}", (f"{number:x}",)) for number in range(1000)))
    told = [Told(f"{number:x}") for number in range(500, 600)]
    each = found(names, *told)
    assert [one and one.sid for one in each] == [f"s{number}" for number in range(500, 600)]
    assert names.asked == 1
    found(names, *told, Told("beyond"))
    assert names.asked == 2


@pytest.mark.parametrize("name", ["", "x" * 129])
def test_what_cannot_have_been_registered_is_not_asked_for(name: str) -> None:
    names = NamesInMemory()
    assert found(names, Told(name)) == [None]
    assert names.asked == 0


NUMBERS = st.text("0123456789", min_size=1, max_size=40)


@given(st.lists(NUMBERS, max_size=5) | st.lists(st.text("019afAF ٣", max_size=9), max_size=5))
def test_ids_that_are_told_together_are_hashed_as_each_is(told: list[str]) -> None:
    assert _hashes(told) == [hash_of(plain(name)) for name in told]


@given(st.text(max_size=130), st.text(max_size=20))
def test_any_id_is_answered(name: str, number: str) -> None:
    names = NamesInMemory()
    names.register(APP, Registered("ours", ("id",), "", "86", "13800000000"))
    [one] = found(names, Told(name, number))
    assert one is None or plain(name) == "id"


def test_a_damaged_block_is_passed_over() -> None:
    names = NamesInMemory()
    names.register(APP, Registered("ours", ("id",)))
    [(slots, block)] = names.blocks
    for body in (block.body[:-5], b"", b"\0" * 40, block.body[:-5] + block.body[-4:]):
        names.blocks.insert(0, (slots, Named(APP, block.slots, body)))
    names.blocks.insert(0, (slots, Named(APP, [*block.slots, 7], block.body)))
    assert sid_of(names, "id") == "ours"


SENT = st.builds(
    Registered,
    st.sampled_from(["one", "two"]),
    st.sampled_from([("7",), ("0a",), ("A",), ("18",), ("x",), ("y", "z")]),
    st.sampled_from(["", "ext"]),
    st.just("86"),
    st.sampled_from(["", "13800138000"]),
)


@given(
    st.lists(
        st.tuples(st.lists(SENT, min_size=1, max_size=3), st.sampled_from(["ours", "theirs"]))
    ),
    st.lists(
        st.tuples(
            st.sampled_from(["7", "a", "18", "12", "x", "y", "none"]),
            st.sampled_from(["8613800138000", "13800138000", "86139"]),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_what_is_given_together_is_what_each_name_says(
    reports: list[tuple[list[Registered], str]], receipts: list[tuple[str, str]]
) -> None:
    names = NamesInMemory()
    for registered, owner in reports:
        names.register(APP, *registered, owner=owner)
    ids, numbers = map(list, zip(*receipts, strict=True))
    given_ = asyncio.run(given_together(names, ids, numbers, sdkappid=APP, owner="ours"))
    each = found(names, *map(Told, ids, numbers), sdkappid=APP, owner="ours")
    if given_ is not None:
        assert given_ == (
            [name and name.sid for name in each],
            [name and name.ext for name in each],
        )
        assert all(name is not None and name.parts == 1 for name in each)


def test_names_that_are_each_registered_once_are_given_together() -> None:
    names = NamesInMemory()
    ids, numbers = ["7", "0a"], ["8613800138000"] * 2
    names.register(APP, Registered("ten", ("A",)), Registered("none", ("8",)))
    names.register(APP, Registered("seven", ("7",), "ext", "86", "13800138000"))
    given_ = asyncio.run(given_together(names, ids, numbers, sdkappid=APP, owner=""))
    assert given_ == (["seven", "ten"], ["ext", ""])
    assert names.asked == 1


@pytest.mark.parametrize(
    "reports",
    [
        [],
        [[Registered("other", ("8",))]],
        [[Registered("far", ("7",), "", "86", "13900139000")]],
        [[Registered("one", ("7",)), Registered("two", ("7",))]],
        [[Registered("one", ("7",))], [Registered("two", ("07",))]],
        [[Registered("one", ("7", "8"))]],
    ],
)
def test_what_is_not_plain_is_not_given_together(reports: list[list[Registered]]) -> None:
    names = NamesInMemory()
    for registered in reports:
        names.register(APP, *registered)
    asked = given_together(names, ["7"], ["8613800138000"], sdkappid=APP, owner="")
    assert asyncio.run(asked) is None


def test_an_id_that_is_too_long_for_any_name_is_not_looked_for() -> None:
    long = "9" * 5000
    asked = given_together(NamesInMemory(), [long], ["1"], sdkappid=APP, owner="")
    assert asyncio.run(asked) is None
    assert found(NamesInMemory(), Told(long)) == [None]


def best_of_all(names: NamesInMemory, told: Told) -> Name | None:
    """Which name fits best, each compared: what `names_of` has to find without that."""
    hashed = hash_of(plain(told.id))
    blocks = asyncio.run(names.named([hashed >> 32]))
    ranked: list[tuple[tuple[bool, bool, bool], Name]] = []
    for rows, at in asyncio.run(_known(blocks, {hashed >> 32}, None)).get(hashed, []):
        name = rows.name(at)
        fits = _same_number(told.number, name.nationcode, name.mobile)
        differs = rows.written(at) ^ _written(told.id)
        if fits is not False:
            ranked.append(((differs >= _DECIMAL, differs > 0, fits is None), name))
    least = min((rank for rank, _ in ranked), default=None)
    alike = [name for rank, name in ranked if rank == least]
    return alike[0] if len({name.sdkappid for name in alike}) == 1 else None


SPELT = ["ab", "AB", "aB", "0ab", "171", "0171"]
MOBILES = st.one_of(
    st.sampled_from(["", "13800138000", "+8613800138000", "008613800138000", "1380013 8000 "]),
    st.text("018+ ", max_size=11),
)
TOLD_NUMBERS = st.one_of(
    st.sampled_from(["", "13800138000", "+8613800138000", "138000", " 1380013 8000 "]),
    st.text("018+ ", max_size=11),
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([APP, OTHER]),
            st.lists(st.sampled_from(SPELT), min_size=1, max_size=2, unique=True),
            st.sampled_from(["86", "1", "", "0086"]),
            MOBILES,
        ),
        max_size=7,
    ),
    st.lists(st.tuples(st.sampled_from(SPELT), TOLD_NUMBERS), min_size=1, max_size=5),
)
def test_of_several_names_that_is_found_which_fits_best_of_all(
    registered: list[tuple[int, list[str], str, str]], receipts: list[tuple[str, str]]
) -> None:
    names = NamesInMemory()
    for number, (sdkappid, ids, nationcode, mobile) in enumerate(registered):
        names.register(sdkappid, Registered(f"s{number}", tuple(ids), "", nationcode, mobile))
    told = [Told(*receipt) for receipt in receipts]
    found_ = found(names, *told, Told("ab"))[:-1]
    for receipt, name in zip(told, found_, strict=True):
        assert name == best_of_all(names, receipt)


def test_blocks_have_as_many_ids_as_one_name_may_have() -> None:
    def sizes(*counts: int) -> list[int]:
        sent = [Registered("s", tuple(map(str, range(count)))) for count in counts]
        return [len(block.slots) for block in namings(sent, "")]

    most = limits.MESSAGE_PARTS_MAX
    assert sizes() == []
    assert sizes(*[1] * 100) == [34, 34, 32]
    assert sizes(*[most] * 3) == [most] * 3
    assert sizes(1, most, 1) == [1, most, 1]
    assert sizes(*[100] * 5) == [200, 200, 100]
    assert sizes(1, most - 1) == [most]


STEP_S, ALL_S = 0.02, 1  # on the machine that `slowness` compares with
MANY = limits.NAMES_BLOCK * limits.NAMES_FOUND_MAX


def longest_and_all_s(work: Coroutine[None, None, object]) -> tuple[float, float]:
    """Processor time of the longest turn that it takes, and of all."""
    turns: list[float] = []
    is_over = False
    gc.disable()  # it would look through what all tests have made
    try:
        while not is_over:
            began = time.thread_time()
            try:
                work.send(None)
            except StopIteration:
                is_over = True
            turns.append(time.thread_time() - began)
    finally:
        gc.enable()
    return max(turns), sum(turns)


def sends(count: int, *, mobiles: bool, ids: tuple[str, ...] = ("batch",)) -> list[Registered]:
    return [
        Registered(f"s{number}", ids, "", "86", f"138{number:08}" if mobiles else "")
        for number in range(count)
    ]


@pytest.mark.parametrize(
    "registered",
    [
        sends(1000, mobiles=True),
        sends(MANY, mobiles=True),
        sends(MANY, mobiles=False),
        sends(
            limits.NAMES_FOUND_MAX,
            mobiles=True,
            ids=tuple("".join(each) for each in product(*["aA", "bB"], *["cC", "dD"] * 3))[:255],
        ),
    ],
    ids=["a batch", "what is read at most", "the same without numbers", "in every spelling"],
)
@pytest.mark.parametrize("told", ["8613800000007", "800000007", "7", ""])
def test_an_id_with_many_names_holds_up_nobody(registered: list[Registered], told: str) -> None:
    """However many receipts come of it: none is compared with each name."""
    names = NamesInMemory()
    names.register(APP, *registered)
    first = registered[0].ids[0]
    receipts = [Told(first, told), *(Told(first, f"86138{number:08}") for number in range(4000))]
    for last in (False, False, True):
        before = slowness()
        longest_s, all_s = longest_and_all_s(names_of(names, receipts, sdkappid=APP))
        slow = max(before, slowness())
        if longest_s <= STEP_S * slow and all_s <= ALL_S * slow:
            return
        assert not last, (longest_s, all_s, slow)
