"""Who else on this machine may write or read a file, and what to do about it.

What everybody may write is refused: whoever writes it decides what we do. All else is worth a
warning, and no more: what others can read they have read already, a group may be one of operators,
and volumes of containers come with folders that everybody may write.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import NamedTuple


class Trouble(NamedTuple):
    """What is wrong with a file's mode: each as a sentence with the fix, or empty."""

    refused: str = ""
    warned: str = ""


def trouble_of(path: Path, *, secret: bool = False) -> Trouble:
    """What is wrong with the mode of a file or folder; of one that is not there, nothing.

    Args:
        secret: what it holds is not for others to read, either.
    """
    try:
        found = path.stat()
    except OSError:
        return Trouble()
    mode, folder = found.st_mode, stat.S_ISDIR(found.st_mode)
    if not (folder or stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        return Trouble()  # the machine's own, such as /dev/null: its mode is not ours to mend
    if mode & stat.S_IWOTH:
        told = f"{path} can be written by everybody on this machine; chmod o-w it"
        return Trouble(warned=told) if folder else Trouble(refused=told)
    # A user's own group, of the same number, has nobody else in it.
    if mode & stat.S_IWGRP and found.st_gid != found.st_uid:
        return Trouble(warned=f"{path} can be written by its group; chmod g-w it")
    if secret and mode & stat.S_IROTH and not folder:
        return Trouble(warned=f"{path} can be read by everybody on this machine; chmod o-r it")
    return Trouble()
