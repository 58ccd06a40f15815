"""Draws the table of a connection's phases and events."""

from __future__ import annotations

from collections.abc import Iterator

from pullstatus.server.connection_state import TABLE, Event, Phase, Step


def picture() -> str:
    """The ways between phases, for whoever shows Mermaid."""
    ways: dict[tuple[Phase, Phase], list[str]] = {}
    for phase, row in TABLE.items():
        for event, step in row.items():
            # CLOSE leads away from each: shown where it is the only way.
            if step.phase is not phase and (event is not Event.CLOSE or phase is Phase.ENDED):
                ways.setdefault((phase, step.phase), []).append(event)
    lines = [f"    {one} --> {other}: {', '.join(by)}" for (one, other), by in ways.items()]
    return "\n".join(["", "```mermaid", "stateDiagram-v2", "    [*] --> NEW", *lines, "```"])


def table() -> str:
    """A row for each phase, a column for each event."""
    rows = [f"| **{phase}** | {' | '.join(_cells(phase))} |" for phase in Phase]
    head = f"| | {' | '.join(Event)} |"
    return "\n".join(["", head, "|---" * (len(Event) + 1) + "|", *rows])


def _cells(phase: Phase) -> Iterator[str]:
    for event in Event:
        step = TABLE[phase].get(event)
        yield "" if step is None else _cell(phase, step)


def _cell(phase: Phase, step: Step) -> str:
    if step == Step(phase, restarts=False):
        return "="
    owes = f" {step.owes:+d}" if step.owes else ""
    runs_on = "" if step.restarts else " ~"
    effect = f", {step.effect.lower()}" if step.effect else ""
    return f"{step.phase}{owes}{runs_on}{effect}"
