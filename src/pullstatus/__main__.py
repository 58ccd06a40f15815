"""The program: `pullstatus`, or `python -m pullstatus`."""

from __future__ import annotations

import sys

from pullstatus.errors import COMMAND_LINE, extra_missing


def main() -> None:
    """Run the command line, or say in a line what is missing for it: status 1, it cannot start."""
    try:
        from pullstatus.cli import main as commands  # noqa: PLC0415 - it may not be installed
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in COMMAND_LINE:
            raise
        sys.exit(f"pullstatus: {extra_missing(error)}")
    except KeyboardInterrupt:  # while that is read, which takes a moment; later it is caught there
        sys.stderr.write("Interrupted\n")
        sys.exit(130)
    commands()


if __name__ == "__main__":
    main()
