"""Systems that have less than Linux: `pull` and `push` start there, and do what they do here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.foreign import Foreign
from tests.harness import clean_environment, statuses

pytestmark = pytest.mark.anew

AS_ON_WINDOWS = """
import os, signal, sys
for module, names in (
    (os, ["O_CLOEXEC", "pread", "pwrite", "preadv", "pwritev", "getuid", "geteuid", "fchmod"]),
    (signal, ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGPIPE"]),
):
    for name in names:
        delattr(module, name)
sys.modules.update(dict.fromkeys(("fcntl", "pwd", "grp", "resource", "termios")))
from pullstatus.__main__ import main
sys.argv[0] = "pullstatus"
main()
"""


def run(folder: Path, address: str, *arguments: str) -> str:
    environment = clean_environment() | {
        "PULLSTATUS_URL": address,
        "PULLSTATUS_SDKAPPID": "1400006666",
        "PULLSTATUS_APPKEY": "0" * 32,
        "PULLSTATUS_TOKEN": "pst_token",
        "XDG_STATE_HOME": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "-c", AS_ON_WINDOWS, *arguments, "--type", "delivery-status"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def page(*records: dict[str, object]) -> bytes:
    data = list(records)
    return json.dumps({"result": 0, "errmsg": "ok", "count": len(data), "data": data}).encode()


@pytest.mark.parametrize("to", ["out.ndjson", "out.csv", "sqlite:///out.db", "-"])
def test_pull_needs_no_more_than_every_system_has(tmp_path: Path, to: str) -> None:
    """Twice, so that what one run has left is read by the next."""
    first, second = statuses(2)
    answers = [page(first), page(), page(second), page()]
    with Foreign("404", answers) as service:
        told = [run(tmp_path, service.address, "pull", "--to", to) for _ in range(2)]
    if to == "-":
        assert [json.loads(line) for line in told] == [first, second]
    elif to == "out.ndjson":
        lines = (tmp_path / to).read_bytes().splitlines()
        assert [json.loads(line) for line in lines] == [first, second]
    assert all(told)


def test_push_needs_no_more_than_every_system_has(tmp_path: Path) -> None:
    (tmp_path / "in.ndjson").write_text("".join(json.dumps(one) + "\n" for one in statuses(2)))
    with Foreign("404", [b'{"accepted":2}']) as service:
        told = json.loads(run(tmp_path, service.address, "push", "in.ndjson"))
        assert told == {"accepted": 2, "refused": 0, "skipped": 0}
        told = json.loads(run(tmp_path, service.address, "push", "in.ndjson"))
        assert told == {"accepted": 0, "refused": 0, "skipped": 2}
