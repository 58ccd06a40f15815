"""`pull` with an appkey, or with a key pair of API 3.0."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pullstatus.cli import main
from tests.foreign import Foreign
from tests.unit.client.test_api3 import ID, KEY, STATUS, statuses


def pull(address: str, folder: Path, *arguments: str, **environment: str | None) -> Result:
    asked = ["--type", "delivery-status", "--url", address, "--sdkappid", "1400006666"]
    return CliRunner().invoke(
        main,
        ["pull", "--to", str(folder / "out.ndjson"), *asked, *arguments],
        env={"PULLSTATUS_APPKEY": None, "PULLSTATUS_SECRET_KEY": None, **environment},
    )


def test_pair_speaks_api_3_and_the_file_has_the_names_of_the_old_call(tmp_path: Path) -> None:
    """An appkey that lies in the environment as well is not read."""
    (tmp_path / "key").write_text(KEY + "\n")
    answers = [statuses(STATUS).content, statuses().content]
    with Foreign("404", answers) as service:
        key = str(tmp_path / "key")
        done = pull(
            service.address,
            tmp_path,
            "--secret-id",
            ID,
            "--secret-key-file",
            key,
            PULLSTATUS_APPKEY=" ",
        )
    assert done.exit_code == 0, done.output
    [line] = (tmp_path / "out.ndjson").read_text().splitlines()
    assert json.loads(line)["user_receive_time"] == "2021-05-11 19:56:28"


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({}, "--appkey-file"),
        ({"PULLSTATUS_SECRET_ID": ID}, "--secret-key-file"),
        ({"PULLSTATUS_SECRET_ID": "a/b", "PULLSTATUS_SECRET_KEY": KEY}, "secret_id must be"),
        ({"PULLSTATUS_SECRET_ID": ID, "PULLSTATUS_SECRET_KEY": KEY + " "}, "secret_key has"),
        ({"PULLSTATUS_APPKEY": " "}, "appkey has"),
    ],
)
def test_what_is_wrong_with_it_is_said_before_anything_is_done(
    tmp_path: Path, variables: dict[str, str], text: str
) -> None:
    done = pull("http://127.0.0.1:1", tmp_path, **variables)
    assert done.exit_code == 2
    assert text in done.output
    assert KEY not in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_page_is_not_gone_on_with_and_given_up(tmp_path: Path) -> None:
    both = ("--moved", "--abandon-page")
    done = pull("http://127.0.0.1:1", tmp_path, *both, PULLSTATUS_APPKEY="0" * 32)
    assert done.exit_code == 2
    assert "exclude each other" in done.output
    assert list(tmp_path.iterdir()) == []
