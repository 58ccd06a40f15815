"""Files that operators name: whole and within a bound, whatever the name stands for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from pullstatus import files
from pullstatus.apps import GivenFile
from pullstatus.cli import main
from pullstatus.errors import InvalidSetting, StoreRefused
from pullstatus.files import check_ordinary, read_whole
from pullstatus.server.certificate import Certificate

KEY = "5f" * 32


def test_as_much_as_may_be_is_read_and_no_byte_more(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_whole(file, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_whole(file, 4)
    with pytest.raises(OSError, match="more than 1000 bytes"):
        read_whole(Path("/dev/zero"), 1000)
    assert read_whole(Path(os.devnull), 0) == b""


def test_a_pipe_is_read_until_its_writer_has_closed_it(tmp_path: Path) -> None:
    """Also by one who opens it later than the reader."""
    os.mkfifo(tmp_path / "pipe")

    def write() -> None:
        with (tmp_path / "pipe").open("wb", buffering=0) as pipe:
            for _ in range(3):
                pipe.write(b"some ")

    writer = threading.Thread(target=write)
    writer.start()
    assert read_whole(tmp_path / "pipe", 100) == b"some some some "
    writer.join()


def test_a_pipe_of_which_nobody_writes_the_end_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WAIT_S", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TimeoutError, match="nobody wrote it to its end"):
        read_whole(tmp_path / "pipe", 100)
    begun = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        os.write(begun, b"half")
        with pytest.raises(TimeoutError, match="nobody wrote it to its end"):
            read_whole(tmp_path / "pipe", 100)
    finally:
        os.close(begun)


def test_what_is_there_is_told_from_what_is_not(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "nowhere", 1)
    with pytest.raises(IsADirectoryError):
        read_whole(tmp_path, 1)
    with pytest.raises(OSError, match="holds a NUL"):
        read_whole(Path("a\0b"), 1)


def test_only_an_ordinary_file_can_be_read_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path(os.devnull)):
        with pytest.raises(OSError, match="no ordinary file"):
            check_ordinary(path, 1)
    (tmp_path / "file").write_bytes(b"12")
    with pytest.raises(OSError, match="more than 1 bytes"):
        check_ordinary(tmp_path / "file", 1)
    check_ordinary(tmp_path / "file", 2)


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that nobody writes to."""
    monkeypatch.setattr(files, "WAIT_S", 0.1)
    os.mkfifo(tmp_path / "pipe", 0o600)
    return tmp_path / "pipe"


def test_settings_are_read_from_whatever_is_named(
    pipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told to change the mode of a device."""
    monkeypatch.chdir(tmp_path)
    said = {}
    for name in (os.devnull, "/dev/zero", str(pipe)):
        done = CliRunner().invoke(main, ["store", "init"], env={"PULLSTATUS_CONFIG": name})
        said[name] = done.output
        assert "chmod" not in done.output
    assert "cannot be read" not in said[os.devnull]
    assert "holds more than" in said["/dev/zero"]
    assert "nobody wrote it" in said[str(pipe)]


def test_settings_come_through_a_pipe_of_a_shell(tmp_path: Path) -> None:
    line = f"PULLSTATUS_CONFIG=<(echo 'store = 5') {sys.executable} -m pullstatus store init"
    done = subprocess.run(
        ["bash", "-c", line.replace("PULLSTATUS_CONFIG=", "exec env PULLSTATUS_CONFIG=")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "store takes a URL in quotes" in done.stderr


def test_alarms_are_read_from_whatever_is_named(pipe: Path) -> None:
    from pullstatus.cli.doctor.alarms import of_file

    for path, said in ((Path("/dev/zero"), "holds more than"), (pipe, "nobody wrote it")):
        with pytest.raises(InvalidSetting, match=said):
            of_file(path)


def test_a_master_key_is_read_from_whatever_is_named(pipe: Path) -> None:
    told = {
        Path(os.devnull): "holds no master key",
        Path("/dev/zero"): "holds more than",
        pipe: "nobody wrote it",
        Path("a\0b"): "holds a NUL",
    }
    for path, said in told.items():
        with pytest.raises(StoreRefused, match=said) as raised:
            GivenFile(path).read()
        assert "chmod" not in str(raised.value)
    pipe.chmod(0o644)
    with pytest.raises(StoreRefused, match="chmod 600"):
        GivenFile(pipe).read()


def test_a_master_key_comes_through_a_pipe(pipe: Path) -> None:
    writer = threading.Thread(target=lambda: pipe.write_text(KEY))
    writer.start()
    [master] = GivenFile(pipe).read()
    writer.join()
    assert master.secret.hex() == KEY


def test_certificates_are_ordinary_files(pipe: Path) -> None:
    """They are read several times, and by a library that looks for their end."""
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(InvalidSetting, match="no ordinary file"):
            Certificate(path, path)
