"""Reading the file of `pullstatus app import`: CSV or NDJSON, all of it good or refused by line."""

from __future__ import annotations

import csv
import io
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pullstatus import limits
from pullstatus.apps import Application, Wanted
from pullstatus.errors import AlreadyExists, InvalidSetting

COLUMNS = {field.name: field.type for field in msgspec.structs.fields(Wanted)}
"""What each member is, by its name."""
SWITCHES = {"on": True, "yes": True, "true": True, "1": True}
SWITCHES |= {"off": False, "no": False, "false": False, "0": False}
PROBLEMS_MAX = 10  # that are told of one file

Line = tuple[int, Application]  # where it begins in the file, from 1


def read_applications(content: bytes, now_ms: int) -> list[Line]:
    """The applications of a file, not made yet, with a key for each that has none.

    Raises:
        InvalidSetting: the file is none, or some of its lines are wrong; each is named.
    """
    if len(content) > limits.IMPORT_BYTES_MAX:
        raise InvalidSetting(f"the file has over {limits.IMPORT_BYTES_MAX} bytes; make it several")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidSetting("the file is not UTF-8") from error
    lines = _ndjson(text) if text.lstrip().startswith("{") else _csv(text)
    found: list[Line] = []
    problems: list[str] = []
    places: dict[int, int] = {}
    for number, wanted in lines:
        try:
            application = _wanted(wanted).application(now_ms, secrets.token_hex)
            first = places.setdefault(application.sdkappid, number)
            if first != number:
                raise InvalidSetting(f"sdkappid stands in line {first} already")
            found.append((number, application))
        except InvalidSetting as error:
            problems.append(f"line {number}: {error}")
    _refuse(problems)
    if not found:
        raise InvalidSetting("the file holds no application")
    if len(found) > limits.APPLICATIONS_IMPORT_MAX:
        raise InvalidSetting(
            f"the file holds over {limits.APPLICATIONS_IMPORT_MAX} applications; make it several"
        )
    return found


def refuse_taken(wanted: Sequence[Line], taken: Mapping[int, str]) -> None:
    """Refuse lines whose application exists; of each of these it is given what is said of it.

    Raises:
        AlreadyExists: some do; each is named.
    """
    problems = [
        f"line {number}: {taken[application.sdkappid]}"
        for number, application in wanted
        if application.sdkappid in taken
    ]
    if problems:
        raise AlreadyExists(_told(problems))


def keys_as_csv(applications: Sequence[Application]) -> str:
    """The applications' keys as CSV; without names, which a spreadsheet might run as formulas."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("sdkappid", "appkey"))
    writer.writerows(
        (application.sdkappid, application.appkeys[0].appkey) for application in applications
    )
    return out.getvalue()


def _ndjson(text: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                members = msgspec.json.decode(line)
                names = json.loads(
                    line, object_pairs_hook=lambda pairs: [name for name, _ in pairs]
                )
            except (ValueError, RecursionError) as error:  # msgspec's are ValueErrors, too
                raise InvalidSetting(f"line {number}: this is not JSON") from error
            if isinstance(members, dict) and len(names) != len(members):
                raise InvalidSetting(f"line {number}: a member is there twice")
            yield number, members


def _csv(text: str) -> Iterator[tuple[int, object]]:
    """Rows as members; an empty cell is a member left out."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in next(rows, [])]
        if "sdkappid" not in names or not set(names) <= COLUMNS.keys():
            raise InvalidSetting(
                f"line 1: must name the columns, sdkappid and any of {', '.join([*COLUMNS][1:])}"
            )
        if len(set(names)) != len(names):
            raise InvalidSetting("line 1: a column is there twice")
        number = rows.line_num + 1
        for row in rows:
            if any(cell.strip() for cell in row):
                if len(row) != len(names):
                    raise InvalidSetting(
                        f"line {number}: has {len(row)} cells where line 1 names {len(names)}"
                    )
                cells = {name: cell.strip() for name, cell in zip(names, row, strict=True)}
                yield number, {name: _value(name, cell) for name, cell in cells.items() if cell}
            number = rows.line_num + 1
    except csv.Error as error:
        raise InvalidSetting(f"line {rows.line_num}: this is not CSV ({error})") from error


def _value(name: str, cell: str) -> object:
    """What a cell stands for; the cell itself if it stands for nothing, which is refused later."""
    kind = COLUMNS[name]
    if kind == tuple[str, ...]:
        return cell.split()
    if kind is bool:
        return SWITCHES.get(cell.lower(), cell)
    if kind is int:
        return int(cell) if cell.isascii() and cell.isdigit() and len(cell) < 12 else cell
    return cell


def _wanted(members: object) -> Wanted:
    try:
        return msgspec.convert(members, Wanted)
    except msgspec.ValidationError as error:
        raise InvalidSetting(_plainly(str(error))) from error


def _plainly(text: str) -> str:
    """What the decoder found, without its own notation: it names members, never values."""
    what, _, place = text.partition(" - at `$")
    what = what.replace("`", "").replace("Object", "an application")
    member = place.strip("`").strip(".")
    return f"{member}: {what}" if member else what


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InvalidSetting(_told(problems))


def _told(problems: list[str]) -> str:
    more = len(problems) - PROBLEMS_MAX
    told = "; ".join(problems[:PROBLEMS_MAX])
    return f"{told}{f'; and {more} more' if more > 0 else ''}. Nothing was made."
