"""The documents tell the truth: what they show is what happens, what they name is there."""

from __future__ import annotations

import ast
import difflib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import click
import pytest

from pullstatus import limits
from pullstatus.cli import main
from pullstatus.cli.config import read_config
from pullstatus.cli.serve import form_of
from pullstatus.emulator import pytest_plugin
from pullstatus.emulator.carriers import GROUPS
from pullstatus.emulator.control import Feed
from pullstatus.emulator.faults import Fault, FaultName
from pullstatus.emulator.scenario import Failure, Rule, Scenario, convert, parse_scenario
from pullstatus.emulator.sms import Template
from pullstatus.receipts.source import Form, ReplyKeys, builtin
from pullstatus.receipts.text import CODINGS
from pullstatus.server import http
from pullstatus.server.figures import REFUSALS, RESULTS, STATUSES
from pullstatus.server.openapi import CALLS, openapi
from pullstatus.wire.about import ABOUT_PATH
from pullstatus.wire.v5.codes import Result
from pullstatus.wire.v5.pull import PULL_PATH
from pullstatus.wire.v5.query import QUERY_PATH
from pullstatus.wire.v5.signature import sign
from tests.harness import made
from tools import consoles
from tools.generate import PARTS, ROOT, pages

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*.md")])
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
HTTP = TEXTS["docs/reference/http.md"]
PROTOCOL = "docs/reference/protocol.md"
FAULTS = get_args(FaultName)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

each_page = pytest.mark.parametrize("page", TEXTS)


def blocks(language: str, *pages: str) -> list[str]:
    return [
        found[2]
        for page in pages or TEXTS
        for found in FENCE.finditer(TEXTS[page])
        if found[1] == language
    ]


# --- what is taken from the program ---------------------------------------------------------------


def test_docs_show_what_the_program_does() -> None:
    """Consoles are run again, help, codes, metrics and limits read again: nothing may differ."""
    stale = {str(path.relative_to(ROOT)): (text, due) for path, text, due in pages() if text != due}
    lines = [
        line
        for text, due in stale.values()
        for line in difflib.unified_diff(text.splitlines(), due.splitlines(), n=0, lineterm="")
    ]
    assert not stale, "\n".join([f"`make docs` writes anew: {', '.join(stale)}", *lines[:40]])


def test_docs_hold_every_part_that_can_be_taken_from_the_program() -> None:
    held = re.findall(r"<!-- from the code: ([a-z-]+) -->", "\n".join(TEXTS.values()))
    assert sorted(held) == sorted(PARTS)


def commands_shown() -> list[str]:
    """What the pages have a reader type, without the files that some of it writes."""
    console = re.sub(r"(?ms)^(\$ [^\n]*<<'END')$.*?^> END$", r"\1", "\n".join(blocks("console")))
    typed = re.findall(r"(?m)^\$ (.*(?:\n>.*)*)", console)
    assert len(typed) > 30
    return typed


def test_commands_can_be_pasted_into_zsh_which_knows_no_comments() -> None:
    assert [
        command for command in commands_shown() if re.search(r"(?m)(^>?|\s)\s*#", command)
    ] == []


def test_answers_shown_end_with_a_line_of_their_own() -> None:
    """Ours have no line feed: without one the reader's prompt stands behind them."""
    calls = [command for command in commands_shown() if "curl " in command and "|" not in command]
    calls += [command for command in commands_shown() if command.startswith("pull() ")]
    assert calls
    assert [command for command in calls if "curl -sw '\\n'" not in command] == []


# --- how to install it --------------------------------------------------------------------------


def test_tutorial_can_be_followed_from_its_first_line() -> None:
    """In an environment of its own, installed as it says; from packages that lie here."""
    page = TEXTS["docs/tutorial/first-pull.md"]
    [install] = blocks("sh", "docs/tutorial/first-pull.md")
    assert page.index(install) < page.index("```console")
    [tour] = [block for block in blocks("sh", "README.md") if "-m venv" in block]
    assert tour.replace("tour", "venv") == install
    environment = {
        "PATH": f"{sys.base_prefix}/bin{os.pathsep}{os.defpath}",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(made("wheels")),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_COMPILE": "0",  # which is how pip is told that there is such an option
    }
    first = install.replace("/path/to/checkout", str(ROOT))
    assert consoles.renewed(page, first=first, environment=environment) == page


def test_nothing_says_to_install_a_name_that_anybody_may_take() -> None:
    """No package index has us: what is installed is a path."""
    files = [
        ROOT / "Makefile",
        ROOT / "pyproject.toml",
        *PAGES,
        *(path for folder in ("src", "examples") for path in (ROOT / folder).rglob("*.*")),
    ]
    named = re.compile(
        r"\b(?:pip3?|pipx|uvx?|poetry|pdm)(?: +[^\s&;|`]+)*? +[\"']?pullstatus(?![\w/.-])"
    )
    assert named.search("pip install -U 'pullstatus[server]'")
    assert named.search("uvx pullstatus")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in files
        if path.is_file() and path.suffix != ".pyc"
        for match in named.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


# --- what is written by hand ----------------------------------------------------------------------


def slugs(page: str) -> set[str]:
    """The anchors of a page's headings, as they are made of them where pages are shown."""
    plain = FENCE.sub("", TEXTS[page])
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"(?m)^#+ (.*)$", plain)
    }


@each_page
def test_docs_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", FENCE.sub("", TEXTS[page])):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.is_file(), f"{page}: no {target}"
        if anchor:
            found = str(path.resolve().relative_to(ROOT))
            assert anchor in slugs(found), f"{page}: {found} has no heading #{anchor}"


@each_page
def test_docs_are_linked_from_the_readme_or_the_index(page: str) -> None:
    linked = {
        ((ROOT / index).parent / target.partition("#")[0]).resolve()
        for index in ("README.md", "docs/README.md")
        for target in re.findall(r"\]\(([^)]+)\)", TEXTS[index])
    }
    assert page == "README.md" or (ROOT / page).resolve() in linked


@each_page
def test_rows_stand_in_tables_with_a_head(page: str) -> None:
    """A row behind an empty line is text with bars in it."""
    lines = [
        "",
        *re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL).splitlines(),
        "",
    ]
    heads = [
        (head, rule)
        for before, head, rule in zip(lines, lines[1:], lines[2:], strict=False)
        if head.startswith("|") and not before.startswith("|")
    ]
    assert [head for head, rule in heads if not re.fullmatch(r"\|[ :|-]+\|", rule)] == []


@each_page
def test_docs_name_no_place_of_one_machine(page: str) -> None:
    assert not re.search(r"(?<![\w.])/(work|root|home|tmp|mnt|Users)/", TEXTS[page])


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("dist/nginx/*")], ids=lambda page: page.name)
def test_no_proxy_is_told_to_send_a_pull_twice(page: Path) -> None:
    """Whoever repeats what was sent already takes the next page, and nobody gets the first."""
    for paragraph in page.read_text(encoding="utf-8").split("\n\n"):
        if "non_idempotent" in paragraph:
            assert "`proxy_next_upstream off` for pulls and `/ingest/`" in " ".join(
                paragraph.split()
            )
            assert re.search(r"`/callbacks/` and `/in/`\s+alone", paragraph)


def called(text: str) -> Iterator[list[str]]:
    """The words of each call of our command in a text, up to where the shell takes over."""
    for found in re.finditer(r"(?:(?<=/bin/)|(?<![^\s(`]))(?<!-u )pullstatus( [^\n`|>&]*)", text):
        yield found[1].split()


def fault(words: list[str]) -> str:
    """What is wrong with a call, if something is."""
    command: click.Command = main
    flags = {"--help", "--version"}
    for word in words:
        if word.startswith("--"):
            flags |= {name for parameter in command.params for name in parameter.opts}
            if word.partition("=")[0] not in flags:
                return f"{command.name} has no {word}"
        elif isinstance(command, click.Group):
            if word not in command.commands:
                return f"{command.name} has no {word}"
            command = command.commands[word]
    return ""


def test_docs_call_commands_that_are_there_with_flags_they_have() -> None:
    console = re.findall(r"(?m)^[$>] (.*)$", "\n".join(blocks("console")))
    shown = "\n".join([*console, *blocks("sh"), *blocks("ini")])
    inline = re.findall(r"`(pullstatus [^`]+)`", "\n".join(TEXTS.values()))
    calls = [*called(shown), *(words for text in inline for words in called(text))]
    assert len(calls) > 10
    assert [found for words in calls if (found := fault(words))] == []
    assert fault(["app", "creat"])
    assert fault(["serve", "--hots"])


def test_every_command_and_flag_has_help() -> None:
    def walk(command: click.Command, name: str) -> Iterator[str]:
        if not command.get_short_help_str():
            yield name
        yield from (
            f"{name} {parameter.opts[-1]}"
            for parameter in command.params
            if isinstance(parameter, click.Option) and not parameter.help
        )
        if isinstance(command, click.Group):
            for below in command.commands.values():
                yield from walk(below, f"{name} {below.name}")

    assert list(walk(main, "pullstatus")) == []


@each_page
def test_docs_name_metrics_that_are_there(page: str) -> None:
    there = set(re.findall(r"(?m)^\| `(pullstatus_\w+)` \|", HTTP))
    assert there
    named = set(re.findall(r"\bpullstatus_[a-z_]+[a-z]\b", TEXTS[page]))
    named -= set(pytest_plugin.__all__)
    assert {name for name in named if not any(full.startswith(name) for full in there)} == set()


@pytest.mark.parametrize(
    ("page", "phrase"),
    [
        ("README.md", f"up to {limits.PULL_COUNT_MAX} at a time"),
        ("README.md", f"for {limits.PULL_KEY_S // 3600} hours"),
        ("CHANGELOG.md", f"up to {limits.PULL_COUNT_MAX} at a time"),
        ("CHANGELOG.md", f"again for {limits.PULL_KEY_S // 3600} hours"),
        (PROTOCOL, f"text of 1 to {limits.RANDOM_CHARS_MAX} characters"),
        (PROTOCOL, f"At most {limits.SKEW_S_MAX} s from the server's clock"),
        (PROTOCOL, f"required (D). 1 to {limits.PULL_COUNT_MAX} |"),
        (PROTOCOL, f"1 to {limits.IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII"),
        (PROTOCOL, f"byte for byte, for {limits.PULL_KEY_S // 3600} hours"),
        (PROTOCOL, f"1 to {limits.RANDOM_CHARS_MAX} characters; no page has a code for it | 1004"),
        (PROTOCOL, f"`time` is at most {limits.SKEW_S_MAX} s off"),
        (PROTOCOL, f"It is opaque, at most {limits.SID_CHARS_MAX} characters"),
        (PROTOCOL, f"{limits.QUERY_RATE} a second for 9.1, {limits.STATISTICS_RATE} for 9.2"),
        (PROTOCOL, f"it has {limits.QUESTION_S} seconds"),
        (PROTOCOL, f"asks its store {limits.QUESTIONS_AT_ONCE} at a time"),
        (PROTOCOL, f"has {limits.QUESTIONS_MAX // limits.SHARE_OF_ONE} in hand"),
        (PROTOCOL, f"more than {limits.STATISTICS_DAYS_MAX} days between them"),
        ("docs/reference/http.md", f"the last {limits.INGEST_REPEAT_S // 3600} hours is"),
        ("docs/reference/http.md", f"again within {limits.INGEST_REPEAT_S // 3600} hours"),
        ("docs/reference/http.md", f"take 1 to {limits.INGEST_RECORDS_MAX:,} records"),
        ("docs/reference/http.md", f"of 1 to {limits.MOBILE_DIGITS_MAX} digits"),
        (
            "docs/how-to/run-in-production.md",
            f"for up to {limits.DRAIN_DEADLINE_S} seconds",
        ),
        (
            "docs/how-to/expose.md",
            f"client_max_body_size {limits.INGEST_BODY_BYTES_MAX >> 20}m;",
        ),
    ],
)
def test_docs_say_limits_as_they_are(page: str, phrase: str) -> None:
    assert phrase in " ".join(TEXTS[page].split())


def test_what_bounds_a_stranger_is_in_the_list_of_limits() -> None:
    named = re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", TEXTS["docs/explanation/strangers.md"])
    assert len(named) > 5
    assert [name for name in named if not hasattr(limits, name)] == []


def test_protocol_lists_the_checks_of_the_pull_call_and_no_others() -> None:
    """Every code that the source answers is in the table of checks, and every one there is real."""
    source = ROOT / "src" / "pullstatus"
    files = [
        *(source / "server").glob("*.py"),
        source / "wire" / "v5" / "signed.py",
        source / "wire" / "v5" / "pull.py",
        source / "wire" / "v5" / "query.py",
        source / "wire" / "v5" / "statistics.py",
    ]
    used = {
        Result[name]
        for file in files
        for name in re.findall(r"\bResult\.([A-Z_]+)", file.read_text(encoding="utf-8"))
    }
    section = TEXTS[PROTOCOL].partition("## 4 Order of checks")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| (\d+) \| .* \| (\d+) \|$", section)
    checks = [(int(place), int(code)) for place, code in rows]
    assert [place for place, _ in checks] == list(range(1, len(checks) + 1))
    of_siblings = {Result.BAD_MOBILE, Result.NOT_SUPPORTED}
    assert {code for _, code in checks} == {int(code) for code in used - {Result.OK, *of_siblings}}
    # A path that is none is no pull, so it is not counted as one.
    assert {code for _, code in checks} | {0} == {*map(int, RESULTS), int(Result.UNKNOWN_PATH)}
    siblings = TEXTS[PROTOCOL].partition("## 9 Sibling calls")[2].partition("\n## ")[0]
    assert all(str(int(code)) in siblings for code in of_siblings & used)
    assert of_siblings <= used


def test_http_reference_lists_the_problems_that_there_are() -> None:
    raised = set()
    for file in ("doors", "head", "inbound", "ingest", "routes"):
        source = (ROOT / "src" / "pullstatus" / "server" / f"{file}.py").read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Call(
                    func=ast.Name(id="Problem" | "Refusal"),
                    args=[ast.Constant(value=http_status), title, *_],
                ):
                    raised.add((http_status, _title(title)))
                case ast.Call(
                    func=ast.Attribute(attr="_problem"),
                    args=[_, ast.Constant(value=http_status), title, *_],
                ):
                    raised.add((http_status, _title(title)))
    section = HTTP.partition("## Problems")[2].partition("\n## ")[0]
    listed = re.findall(r"(?m)^\| (\d+) \| ([^|]+) \|", section)
    assert {(int(http_status), title) for http_status, title in listed} == raised
    assert {int(http_status) for http_status, _ in listed} | {200} == {*STATUSES, *REFUSALS}


def test_openapi_has_the_problems_that_the_reference_lists() -> None:
    """But for 405: what has it is no operation."""
    document = json.loads(openapi("1", frozenset([*CALLS, ABOUT_PATH])))
    told = set()
    for path in document["paths"].values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                problem = answer.get("content", {}).get("application/problem+json")
                for title in (
                    problem["schema"]["allOf"][1]["properties"]["title"]["enum"] if problem else ()
                ):
                    told.add((int(status), title))
    section = HTTP.partition("## Problems")[2].partition("\n## ")[0]
    listed = re.findall(r"(?m)^\| (\d+) \| ([^|]+) \|", section)
    assert told == {(int(status), title) for status, title in listed if status != "405"}


def _title(argument: ast.expr) -> object:
    """What an argument says: itself, or the constant of the server that it names."""
    if isinstance(argument, ast.Name):
        return getattr(http, argument.id)
    assert isinstance(argument, ast.Constant)
    return argument.value


def test_http_reference_examples_are_json_and_its_signature_fits() -> None:
    for block in blocks("json"):
        for line in block.splitlines():
            json.loads(line)
    appkey = re.search(r"appkey `([0-9a-f]{32})`", HTTP)
    assert appkey is not None
    requests = blocks("http")
    assert {PULL_PATH, QUERY_PATH} <= {request.split()[1].partition("?")[0] for request in requests}
    for request in requests:
        body = json.loads(request.splitlines()[-1])
        found = re.search(r"random=(\d+)", request)
        assert found is not None
        assert body["sig"] == sign(appkey[1], found[1], body["time"])


def test_production_settings_are_settings_of_serve(tmp_path: Path) -> None:
    [settings] = blocks("toml", "docs/how-to/install.md")
    file = tmp_path / "pullstatus.toml"
    file.write_text(settings, encoding="utf-8")
    known = {
        parameter.opts[0].lstrip("-"): form_of(parameter)
        for parameter in main.commands["serve"].params
    }
    assert read_config(file, known)


def test_emulator_reference_names_every_member_and_its_scenario_is_one() -> None:
    page = "docs/reference/emulator.md"
    [scenario] = blocks("toml", page)
    assert parse_scenario(scenario).faults
    structs = [Scenario, *get_type_hints(Scenario).values(), Failure, Rule, Template, Fault, Feed]
    members = {
        member for struct in structs for member in getattr(struct, "__struct_fields__", ())
    } | {*FAULTS, *GROUPS}
    assert len(members) > 50
    assert {member for member in members if not re.search(rf"\b{member}\b", TEXTS[page])} == set()
    section = TEXTS[page].partition("## Faults")[2]
    for name in FAULTS:
        needs = {"result": {"result": 1007}, "delay": {"delay_s": 1}}.get(name, {})
        done = convert({"fault": name, **needs}, Fault, "fault").strikes_late
        assert re.search(rf"(?m)^\| `{name}` \|.* \| {'' if done else 'not '}done \|$", section)


def test_values_of_a_source_are_named_with_their_defaults() -> None:
    page = TEXTS["docs/how-to/gateways/your-own.md"]
    reply = ReplyKeys()
    for member, values, default in (
        ("coding", CODINGS, reply.coding),
        ("form", get_args(Form), reply.form),
        ("numbers", ("international", "national"), None),
    ):
        [row] = re.findall(rf"(?m)^\| (?:`\w+`, )*`{member}` \| .*$", page)
        assert [value for value in values if not re.search(rf"`\"?{value}\"?`", row)] == []
        assert default is None or row.endswith(f"; where it is not said `{default}` |")


def test_every_source_of_ours_is_on_a_page() -> None:
    pages = "".join(text for page, text in TEXTS.items() if page.startswith("docs/how-to/"))
    assert [name for name in builtin() if f"/in/TOKEN/{name}" not in pages] == []


def test_changelog_begins_with_this_version() -> None:
    """Which is one before it as long as it is not released: 0.2.0.dev0 sorts before 0.2.0."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'(?m)^version = "([\d.]+?)(\.dev\d+)?"$', project)
    newest = re.search(r"(?m)^## (.+), (.+)$", TEXTS["CHANGELOG.md"])
    assert version is not None
    assert newest is not None
    assert (version[1], version[2] is not None) == (newest[1], newest[2] == "unreleased")
