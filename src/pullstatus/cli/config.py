"""A TOML file of settings for `serve`: the flags' names without their dashes in front.

    store = "sqlite:////var/lib/pullstatus/mailboxes.db"
    port = 8080
    trusted-proxies = "10.0.0.7"

What stands on the command line wins over the environment, and that over the file. The other
commands take the store and its master key from it, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from pullstatus import limits, toml
from pullstatus.errors import InvalidSetting
from pullstatus.files import read_whole
from pullstatus.modes import trouble_of
from pullstatus.store import check_store_url

CONFIG_FILE: Final = Path("/etc/pullstatus.toml")
"""Read where no other is named."""

CONFIG_VARIABLE: Final = "PULLSTATUS_CONFIG"
"""In the environment, and in what the contexts of a command share, where `--config` is in force."""

READ: Final = "pullstatus.cli.config.read"
"""There, too: what was read of it. A pipe has it once."""

DEFAULT_STORE: Final = "sqlite:///pullstatus.db"


def config_file() -> Path | None:
    """The file of `--config`, or of the environment, or in the usual place, if it is there."""
    context = click.get_current_context(silent=True)
    named = (context and context.meta.get(CONFIG_VARIABLE)) or os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return CONFIG_FILE if CONFIG_FILE.exists() else None


def default_store() -> str:
    """The URL of the store that is meant when none is named.

    Raises:
        InvalidSetting: the file can't be read, is no TOML, or its store is none.
    """
    path = config_file()
    if path is None:
        return DEFAULT_STORE
    store = _in_force(path).get("store", DEFAULT_STORE)
    if not isinstance(store, str):
        raise InvalidSetting(f"{path}: store takes a URL in quotes")
    try:
        check_store_url(store)
    except InvalidSetting as error:
        raise InvalidSetting(f"{path}: {error}") from error
    return store


def default_master_key() -> tuple[Path | None, str | None]:
    """The file or the command of the master key, where none is named.

    Raises:
        InvalidSetting: the file can't be read, is no TOML, or one of these is no text.
    """
    path = config_file()
    if path is None:
        return None, None
    settings = _in_force(path)
    file, command = (settings.get(f"master-key-{what}") for what in ("file", "command"))
    if not isinstance(file, str | None) or not isinstance(command, str | None):
        raise InvalidSetting(f"{path}: master-key-file and master-key-command are in quotes")
    return None if file is None else Path(file), command


FORMS: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
}
"""What a setting takes. A text is good for each: it is read as on the command line."""

INTEGER_BITS: Final = 63  # beside the sign: what TOML promises of its numbers


def read_config(path: Path, forms: Mapping[str, type]) -> dict[str, object]:
    """The settings of a file, named like the flags.

    Args:
        forms: of all settings that there are, each one of `FORMS`.

    Raises:
        InvalidSetting: the file can't be read, is no TOML, names a setting there is not, or has
            something else for one than it takes.
    """
    settings = _settings(path)
    for name, value in settings.items():
        if name not in forms:
            choices = ", ".join(sorted(forms))
            raise InvalidSetting(f"{path} sets {name}, which is no setting of serve: {choices}")
        if isinstance(value, dict | list):
            raise InvalidSetting(f"{path}: {name} takes one value")
        if not _fits(value, forms[name]):
            raise InvalidSetting(f"{path}: {name} takes {FORMS[forms[name]]}")
    return settings


def _fits(value: object, form: type) -> bool:
    if isinstance(value, bool):  # an int, to Python
        return form is bool
    return isinstance(value, str | form) or (form is float and isinstance(value, int))


def _in_force(path: Path) -> Mapping[str, object]:
    """What `--config` has read already, or else what the file says."""
    context = click.get_current_context(silent=True)
    read: Mapping[str, object] | None = context.meta.get(READ) if context else None
    return _settings(path) if read is None else read


def _settings(path: Path) -> dict[str, object]:
    """What a file says, by the names of the flags: they may have `_` for each `-`."""
    if refused := trouble_of(path).refused:
        raise InvalidSetting(refused)
    try:
        # Editors of Windows put a mark in front.
        text = read_whole(path, limits.NAMED_FILE_BYTES_MAX).decode("utf-8-sig")
        settings = toml.members(text)
    except OSError as error:
        raise InvalidSetting(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidSetting(f"{path} is no TOML: save it as UTF-8") from error
    except ValueError as error:
        raise InvalidSetting(f"{path} is no TOML: {error}") from error
    for name, value in settings.items():
        if isinstance(value, str) and "\0" in value:
            raise InvalidSetting(f"{path}: {name} holds a NUL, which no setting does")
        if isinstance(value, int) and value.bit_length() > INTEGER_BITS:
            raise InvalidSetting(f"{path}: {name} is beyond all whole numbers of TOML")
        if "_" in name and name.replace("_", "-") in settings:
            raise InvalidSetting(
                f"{path} sets {name} and {name.replace('_', '-')}, which is the same"
            )
    return {name.replace("_", "-"): value for name, value in settings.items()}
