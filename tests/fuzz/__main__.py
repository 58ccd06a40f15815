"""Fuzzes every parser, guided by which lines were run: `python -m tests.fuzz --seconds 60`.

And plays sequences of requests to both ways of a server: see `tests.fuzz.ways`.

A process for each parser, since that is how libFuzzer works; what one finds is told with the bytes
that found it, and the others go on. It needs atheris, which is in `.venv-fuzz`: see `make fuzz`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click

INPUT_BYTES_MAX = 4096
SLOW_S = 10  # of one input, on a machine that may be busy
MEMORY_MIB = 2048
WAYS = "ways"


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="for each parser (20)")
    parser.add_argument("--seed", type=int, default=None, help="a number; made up when absent")
    parser.add_argument("--only", metavar="NAME", help=f"one parser, or {WAYS}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (all)")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the process of a parser
    options, flags = parser.parse_known_args()
    if options.one:
        return fuzz(options.one, flags)
    from tests.fuzz.parsers import PARSERS

    seed = secrets.randbelow(2**31) or 1 if options.seed is None else options.seed
    known = [*(one.name for one in PARSERS), WAYS]
    names = [name for name in known if options.only in (None, name)]
    if not names:
        parser.error(f"there are {', '.join(known)}")
    click.echo(f"seed {seed}, {options.seconds} s for each of {len(names)}")
    with ThreadPoolExecutor(options.jobs) as pool:
        found = [*pool.map(partial(run, seconds=options.seconds, seed=seed), names)]
    click.echo(f"{sum(found)} of {len(names)} did what they must not, or took too long")
    return 1 if any(found) else 0


def run(name: str, *, seconds: int, seed: int) -> bool:
    """Fuzz one parser in a process of its own; whether something was found."""
    if name == WAYS:
        return play(seconds=seconds, seed=seed)
    from tests.fuzz.parsers import PARSERS

    [parser] = [one for one in PARSERS if one.name == name]
    with tempfile.TemporaryDirectory(prefix="pullstatus-fuzz-") as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, data in enumerate(parser.seeds):
            (corpus / str(number)).write_bytes(data)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz", "--one", name, str(corpus)),
                *(f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={INPUT_BYTES_MAX}"),
                *(f"-timeout={SLOW_S}", f"-rss_limit_mb={MEMORY_MIB}"),
                *(f"-artifact_prefix={folder}/", "-print_final_stats=1"),
            ],
            env=os.environ | {"TMPDIR": folder},  # whatever it leaves goes with that
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        runs = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        count = runs[-1].split()[-1] if runs else "?"
        click.echo(f"{name:24} {count:>9} inputs")
        if not done.returncode:
            return False
        click.echo(f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
        for artifact in sorted(Path(folder).glob("*-*")):
            click.echo(f"{name}: {artifact.read_bytes()!r}")
        return True


def play(*, seconds: int, seed: int) -> bool:
    """Play sequences to both ways, in a process of its own; whether something was found."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.ways", f"--seconds={seconds}", f"--seed={seed}"],
        capture_output=True,
        text=True,
        check=False,
    )
    click.echo(f"{WAYS:24} {done.stdout.strip()[-4000:]} {done.stderr[-2000:]}".rstrip())
    return done.returncode != 0


def fuzz(name: str, flags: list[str]) -> int:
    """Within that process: drive the parser until the time is over, or something is found."""
    import atheris

    with atheris.instrument_imports(include=["pullstatus"]):
        from tests.fuzz.parsers import PARSERS

    [parser] = [one for one in PARSERS if one.name == name]

    def give(data: bytes) -> None:
        with contextlib.suppress(*parser.refusals):
            parser.read(data)

    atheris.Setup([name, *flags], give)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
