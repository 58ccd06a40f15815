"""The public names are typed, for users of either checker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "typing" / "api.py"
ROOT = Path(__file__).parents[1]


def pyright(*files: Path) -> dict[str, Any]:
    """What pyright says of files."""
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *files],
        cwd=ROOT,
        env=os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_page_of_legal_uses_passes_pyright() -> None:
    """In its strict mode; mypy's is run over all tests by `make check`."""
    said = pyright(PAGE)
    assert said["generalDiagnostics"] == []
    assert said["summary"]["filesAnalyzed"] == 1


def test_illegal_uses_do_not(tmp_path: Path) -> None:
    """A checker that sees no types would pass anything."""
    page = tmp_path / "wrong.py"
    page.write_text(
        "from pullstatus import Client, Kind\n"
        "client = Client('http://a.test', 1, 'key')\n"
        "client.pull(Kind.REPLY).records[0].sid\n"
        "client.pull('reply')\n"
        "client.pull(Kind.REPLY, 10)\n"
        "from pullstatus import Nothing\n"
    )
    wrong = {one["range"]["start"]["line"] for one in pyright(page)["generalDiagnostics"]}
    assert wrong == {2, 3, 4, 5}
