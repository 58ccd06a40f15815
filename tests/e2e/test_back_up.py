"""What the page on backups says to do, done."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.harness import COMMAND, ROOT, Program, statuses

PAGE = ROOT / "docs/how-to/back-up.md"


def script(heading: str, folder: Path) -> str:
    """The commands below a heading of the page, in folders of a test."""
    _, _, section = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")
    commands = section.partition("```sh\n")[2].partition("```")[0]
    assert commands
    return commands.replace("/var/backups/pullstatus", str(folder / "backups")).replace(
        "/var/lib/pullstatus", str(folder)
    )


def test_a_drill_as_the_page_has_it_proves_the_newest_backup(tmp_path: Path) -> None:
    """Beside the server, whose store stays as it is; what was handed out is there too."""
    backups = tmp_path / "backups"
    backups.mkdir()
    program = Program(tmp_path)
    app = program.create_app()
    with program:
        program.feed(app, statuses(5))
        program.pull(app, max=2)
        (backups / "pullstatus-20200101T000000Z.db").touch()  # an older one, which is none
        program.cli("backup", "--into", str(backups))
        folders = [str(Path(COMMAND).parent), os.environ["PATH"]]
        drill = subprocess.run(
            ["bash", "-euc", script("Try it, before you need it", tmp_path)],
            env=program.environment | {"PATH": os.pathsep.join(folders), "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert drill.returncode == 0, drill.stderr
        assert '"sound": true' in drill.stdout
        listed = json.loads(drill.stdout[drill.stdout.rindex("\n[") :])
        assert [(row["sdkappid"], row["waiting"]) for row in listed] == [(app.sdkappid, 3)]
        assert program.waiting(app) == 3
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("tmp")) == []
