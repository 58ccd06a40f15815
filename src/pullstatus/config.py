"""A TOML file of settings for `serve`: the flags' names without their dashes in front.

    store = "sqlite:////var/lib/pullstatus/mailboxes.db"
    port = 8080
    trusted-proxies = "10.0.0.7"

What stands on the command line wins over the environment, and that over the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path

from pullstatus.errors import InvalidSetting


def read_config(path: Path, known: Collection[str]) -> dict[str, object]:
    """The settings of a file, by parameter name (underscores for dashes).

    Raises:
        InvalidSetting: the file can't be read, is no TOML, or names a setting there is not.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSetting(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{path} is no TOML: {error}") from error
    named = {name.replace("-", "_"): value for name, value in settings.items()}
    for name, value in named.items():
        if name not in known:
            choices = ", ".join(sorted(name.replace("_", "-") for name in known))
            raise InvalidSetting(
                f"{path} sets {name.replace('_', '-')}, which is no setting of serve: {choices}"
            )
        if isinstance(value, dict | list):
            raise InvalidSetting(f"{path}: {name.replace('_', '-')} takes one value")
    return named
