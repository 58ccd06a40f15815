"""What source and tests name as their source is there to be looked up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROTOCOL = ROOT / "docs" / "reference" / "protocol.md"
SECTION = re.compile(r"protocol\.md,?(?: sections?)? ((?:\d+(?:\.\d+)?(?:, | and | to )?)+)")
HEADING = re.compile(r"^##+ (\d+(?:\.\d+)?) ", re.MULTILINE)


def code() -> Iterator[tuple[Path, str]]:
    for folder in ("src", "tests", "bench", "tools"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            # A citation may be broken over two lines of a docstring or a comment.
            yield file, re.sub(r"\s*\n\s*(?:# )?", " ", file.read_text(encoding="utf-8"))


def test_every_cited_section_of_the_protocol_is_there() -> None:
    there = set(HEADING.findall(PROTOCOL.read_text(encoding="utf-8")))
    cited = {
        (file.name, number)
        for file, text in code()
        for citation in SECTION.findall(text)
        for number in re.findall(r"\d+(?:\.\d+)?", citation)
    }
    assert cited, "nothing cites the protocol: has the form of citations changed?"
    assert not {(name, number) for name, number in cited if number not in there}


def test_no_document_is_cited_that_is_not_in_this_repository() -> None:
    there = {file.name for file in ROOT.rglob("*.md") if ".venv" not in file.parts}
    lacking = {
        (file.name, name)
        for file, text in code()
        for name in re.findall(r"\b([\w-]+\.md)\b", text)
        if name not in there
    }
    assert not lacking


def test_sections_of_the_protocol_are_numbered_in_order() -> None:
    numbers = [
        tuple(int(part) for part in number.split("."))
        for number in HEADING.findall(PROTOCOL.read_text(encoding="utf-8"))
    ]
    assert numbers == sorted(set(numbers))
    assert [number[0] for number in numbers if len(number) == 1] == list(range(1, 16))
