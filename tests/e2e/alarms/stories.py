"""Figures of real servers, laid out over two hours, and what Prometheus' own tool says of them.

    Story(before, after)    a scrape for the first hour, one for the second, and so on for ever

What was counted between the last two is counted again in each further minute, as if the fault went
on.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from tests.harness import PATIENCE_S, PLAIN, ROOT, Program

RULES = ROOT / "dist/alerts.yml"
ASKED = set(re.findall(r"\w+", RULES.read_text(encoding="utf-8")))
COUNTED = re.compile(r"(_total|_bucket)\b")
Scrape = Mapping[str, float]
"""Figures by name and labels."""
COMMITS = "pullstatus_commit_seconds"
UPKEEP = "pullstatus_upkeep_timestamp_seconds"
STARTED = "process_start_time_seconds"
HOUR_S, DAY_S = 3600, 86_400
LATER_S = 12 * DAY_S
"""In the time of Prometheus' test, which begins at 0: for what was days ago."""


class Story:
    """Figures of one server over two hours, a value a minute.

    Its upkeep goes on meanwhile, unless it hangs. What its commits took counts only where it is to:
    the machine that runs this may be busy, and a commit beside an election takes long, too.
    """

    def __init__(
        self,
        *scrapes: Scrape,
        step_min: int = 60,
        begins_s: int = 0,
        upkeep_hangs: bool = False,
        commits_are_timed: bool = False,
        beside: Story | None = None,
    ) -> None:
        """Each scrape stands for `step_min` minutes, the last one until the end.

        What was counted between the last two is counted again in each further minute.

        Args:
            begins_s: when the two hours begin, in Prometheus' test: what was before is before 0.
            beside: what another server over the same store tells meanwhile.
        """
        self.begins_s = begins_s
        self.scrapes = scrapes
        self.step_min = step_min
        self.upkeep_hangs = upkeep_hangs
        self.commits_are_timed = commits_are_timed
        self.beside = beside
        self.now_s = time.time()

    def values(self, name: str) -> list[str]:
        """One figure, in the notation of Prometheus' tests: value, change a minute, how often."""
        known = [scrape.get(name) for scrape in self.scrapes]
        parts = []
        for place, value in enumerate(known):
            last = place == len(known) - 1
            minutes = 121 - self.step_min * place if last else self.step_min
            before = known[place - 1] if place else None
            if value is None:
                parts.append(f"_x{minutes}")
                continue
            change = 0.0
            counts = self.commits_are_timed or not name.startswith(COMMITS)
            if last and before is not None and counts and COUNTED.search(name):
                change = value - before
            moment = self._moved(name, value, place)
            if name == UPKEEP and not self.upkeep_hangs:
                moment, change = self._moved(name, self.now_s, place), 60.0
            parts.append(f"{moment:.6f}{change:+.6f}x{minutes - 1}")
        return parts

    def _moved(self, name: str, value: float, place: int) -> float:
        """A figure that is a moment, as a moment of the test's time."""
        if value and "timestamp" in name:
            return value - self.now_s + self.begins_s + 60 * self.step_min * place
        return value - self.now_s + self.begins_s if name == STARTED else value

    def series(self, instance: str, asked: set[str] = ASKED) -> list[dict[str, str]]:
        """All figures that are asked for, by an alarm if nothing else is said, of an instance.

        One beside it is told of behind it, as of another instance.
        """
        made = []
        waits = [f"_x{self.begins_s // 60}"] if self.begins_s else []
        for name in sorted(set().union(*self.scrapes)):
            family, _, labels = name.partition("{")
            if family not in asked:
                continue
            own = ",".join(filter(None, (labels.rstrip("}"), f'instance="{instance}"')))
            given = f'{family}{{job="pullstatus",{own}}}'
            made.append({"series": given, "values": " ".join([*waits, *self.values(name)])})
        return made + ([] if self.beside is None else self.beside.series(f"{instance}-2", asked))

    def labelled(self, name: str) -> list[dict[str, str]]:
        """The same, with a label for all servers over one store."""
        series = self.series(name)
        return [one | {"series": f'{one["series"][:-1]},story="{name}"}}'} for one in series]


Fault = Callable[[Path], Story]
"""Has something happen to a server, whose store is in a folder that is empty so far."""


def rung(stories: Mapping[str, Story], rules: str, folder: Path) -> dict[str, set[str]]:
    """What of some rules rings at any time of stories that begin together, by their names."""
    [begins_s] = {story.begins_s for story in stories.values()}
    # What it got is told where it is not what was expected, which is nothing.
    asked = {
        "expr": "last_over_time(ALERTS{alertstate='firing'}[3h])",
        "eval_time": f"{begins_s // 60 + 120}m",
        "exp_samples": [],
    }
    series = [one for name, story in stories.items() for one in story.labelled(name)]
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "10m" if begins_s else "1m",  # of days, each minute would take long
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [asked]}],
    }
    (folder / "rules.yml").write_text(rules, encoding="utf-8")
    told = told_by_promtool(test, folder).replace("\\", "")
    assert "SUCCESS" in told or "alertname" in told, told[:2000]
    found: dict[str, set[str]] = {name: set() for name in stories}
    for text in re.findall(r"\{(.*?alertname=.*?)\}", told):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', text))
        found[labels["story"]].add(labels["alertname"])
    return found


def told_by_promtool(test: Mapping[str, object], folder: Path) -> str:
    """What Prometheus' tool says of its test of some rules."""
    (folder / "test.yml").write_text(json.dumps(test), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", folder / "test.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


# --- scrapes --------------------------------------------------------------------------------------

WATCHED = ("--admin", "127.0.0.1:0")


def figures(program: Program, *, within_s: float = PATIENCE_S) -> Scrape:
    return {**program.metrics(within_s=within_s), "up": 1}


def watched(program: Program) -> Scrape:
    """The figures of a server that shows them elsewhere."""
    events = [json.loads(line) for line in program.log().splitlines()]
    [*_, admin] = [line["admin"] for line in events if line["event"] == "started"]
    found = httpx.get(f"{admin}/metrics", verify=PLAIN, trust_env=False, timeout=PATIENCE_S)
    return read(found.text)


def read(text: str) -> Scrape:
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {**{name: float(value) for name, value in pairs}, "up": 1}


async def figures_of(client: httpx.AsyncClient) -> Scrape:
    return read((await client.get("/metrics")).text)
