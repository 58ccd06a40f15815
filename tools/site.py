"""Builds the documents as a site, with search: `make site`.

The pages stay where they are, and so do the links between them: all are copied as they lie in the
checkout, and the index of the documents says in which order they are named. A link that leads
nowhere, or to no heading, ends it.

Runs in the environment of `requirements/site.txt`.
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import Final

from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT: Final = Path(__file__).parents[1]
INDEX: Final = Path("docs/README.md")
_HEADING: Final = re.compile(r"## (.*)")
_LINK: Final = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_PAGE: Final = re.compile(r"\[([^]]+)\]\(([^)#]+\.md)\)")
STYLE: Final = Path("tools/site.css")


def pages() -> list[Path]:
    """All pages of the checkout that readers are sent to."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples/README.md"]
    return sorted(page.relative_to(ROOT) for page in found)


def shown() -> set[Path]:
    """The pages, and the pictures and files of the checkout that they lead to."""
    files = set(pages())
    for page in pages():
        for link in _LINK.findall((ROOT / page).read_text(encoding="utf-8")):
            target = (ROOT / page.parent / link).resolve()
            if target.is_file() and target.is_relative_to(ROOT):
                files.add(target.relative_to(ROOT))
    return files


def navigation() -> list[dict[str, object]]:
    """Sections with their pages, as the index of the documents has them.

    Pages on the lines below an item stand with it in a section of that name.
    """
    sections: list[dict[str, object]] = [{"What it is": "README.md"}]
    items: list[dict[str, object]] = []
    for line in (ROOT / INDEX).read_text(encoding="utf-8").splitlines():
        if heading := _HEADING.match(line):
            items = []
            sections.append({heading[1]: items})
            continue
        found: list[dict[str, object]] = [
            {title: str((ROOT / INDEX.parent / link).resolve().relative_to(ROOT))}
            for title, link in _PAGE.findall(line)
        ]
        if line.startswith("- "):
            items += found
        elif found:
            [(title, before)] = items.pop().items()
            inner = before if isinstance(before, list) else [{title: before}]
            items.append({title: [*inner, *found]})
    return sections


def main() -> None:
    """Write the site into the folder that its settings name."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    config = load_config(str(ROOT / "mkdocs.yml"), nav=navigation())
    copied = Path(config.docs_dir)
    shutil.rmtree(copied)
    for file in {*shown(), STYLE}:
        (copied / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, copied / file)
    build(config)


if __name__ == "__main__":
    main()
