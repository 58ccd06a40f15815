"""Who else may write or read a file: refused, warned of, or right."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from pullstatus.cli import main
from pullstatus.errors import InvalidSetting, StoreRefused
from pullstatus.modes import trouble_of
from pullstatus.server.certificate import Certificate
from pullstatus.server.serve import ServeOptions, Server
from pullstatus.store import open_store, store_cautions

OTHER_GROUP = 54_321


@pytest.mark.parametrize(
    ("mode", "secret", "refused", "warned"),
    [
        (0o600, True, "", ""),
        (0o640, True, "", ""),
        (0o644, False, "", ""),
        (0o644, True, "", "can be read by everybody on this machine; chmod o-r it"),
        (0o602, False, "can be written by everybody on this machine; chmod o-w it", ""),
        (0o666, True, "can be written by everybody on this machine; chmod o-w it", ""),
    ],
)
def test_of_a_file(tmp_path: Path, mode: int, secret: bool, refused: str, warned: str) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(mode)
    found = trouble_of(file, secret=secret)
    assert found.refused == (f"{file} {refused}" if refused else "")
    assert found.warned == (f"{file} {warned}" if warned else "")


@pytest.mark.parametrize(
    ("mode", "warned"),
    [(0o700, False), (0o755, False), (0o777, True), (0o1777, True)],
)
def test_of_a_folder(tmp_path: Path, mode: int, warned: bool) -> None:
    """Volumes of containers have such modes: a warning is enough."""
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    found = trouble_of(folder)
    assert (found.refused, bool(found.warned)) == ("", warned)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to a group")
def test_a_group_that_may_write_is_told_unless_it_is_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for group, warned in ((OTHER_GROUP, True), (file.stat().st_uid, False)):
        os.chown(file, -1, group)
        file.chmod(0o660)
        assert bool(trouble_of(file).warned) == warned


def test_the_mode_of_a_device_is_not_ours_to_mend() -> None:
    assert trouble_of(Path(os.devnull), secret=True) == ("", "")


def test_what_is_not_there_is_no_trouble(tmp_path: Path) -> None:
    assert trouble_of(tmp_path / "nowhere") == ("", "")
    assert store_cautions(f"sqlite:///{tmp_path}/nowhere.db") == []


def made(folder: Path) -> Path:
    async def make() -> None:
        await (await open_store(f"sqlite:///{folder}/store.db?commits=thread")).close()

    asyncio.run(make())
    return folder / "store.db"


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-server"])
def test_a_store_that_everybody_may_write_is_not_served(tmp_path: Path, end: str) -> None:
    file = made(tmp_path)
    other = file.with_name(file.name + end)
    other.touch()
    other.chmod(0o606)
    server = Server(ServeOptions(f"sqlite:///{file}", port=0))
    with pytest.raises(StoreRefused, match=f"{other} can be written by everybody"):
        asyncio.run(server.run())
    other.chmod(0o604)
    assert store_cautions(f"sqlite:///{file}") == [
        f"{other} can be read by everybody on this machine; chmod o-r it"
    ]


def test_a_key_that_everybody_may_write_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    for file in (key, chain):
        key.chmod(0o600)
        chain.chmod(0o644)
        certificate = Certificate(chain, key)
        file.chmod(0o666)
        with pytest.raises(InvalidSetting, match=f"{file} can be written by everybody"):
            Certificate(chain, key)
        with pytest.raises(InvalidSetting, match=f"{file} can be written by everybody"):
            certificate.renew(chain, key)


def test_a_configuration_that_everybody_may_write_is_refused_by_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which store is meant, and which addresses are believed."""
    file = tmp_path / "pullstatus.toml"
    file.write_text(f'store = "sqlite:///{tmp_path}/store.db"\n')
    file.chmod(0o646)
    monkeypatch.setenv("PULLSTATUS_CONFIG", str(file))
    for command in (["serve", "--port", "0"], ["app", "list"], ["audit"]):
        done = CliRunner().invoke(main, command)
        assert done.exit_code in (1, 2), command
        assert f"{file} can be written by everybody on this machine; chmod o-w it" in done.output
