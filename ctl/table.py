"""Workers as a table, which fits the terminal, and as CSV."""

from collections.abc import Collection, Sequence
from typing import Any

from amp_workers.ctl.columns import COLUMNS, CSV, NONE, WIDE
from amp_workers.ctl.render import shown

Worker = dict[str, Any]

COLOURS = {"failed": 31, "lost": 31, "stale": 33, "stuck": 33, "active": 32, "stopped": 2, "forgotten": 2}
"""The states' SGR parameters: red, yellow, green, faint."""

_GAP = "  "

_SHORTEST = 8
"""Cells: the shortest text that is still useful."""

_YIELDING = ("version", "commit", "commit-timestamp", "build-date")
"""Columns that are shortened first, because which worker has which trouble matters more."""

_PREFERRED = 36
"""Cells: the room of the other texts before these columns get more than the shortest."""

_GIVEN_UP_FIRST = ("uptime", "jobs", "version", "status", "last-seen")
"""Columns that a narrow terminal omits, the first one first."""


def table(
    workers: Sequence[Worker],
    columns: Sequence[str] = WIDE,
    *,
    width: int | None = None,
    colour: bool = False,
    headings: bool = True,
) -> str:
    """Return a line of headings and one per worker, in aligned columns.

    columns: names of `COLUMNS`. width: of the terminal; None keeps every text whole.
    """
    rows = [[shown(COLUMNS[name].text(worker)) for name in columns] for worker in workers]
    if headings:
        rows.insert(0, [COLUMNS[name].heading for name in columns])
    if not rows:
        return ""
    natural = {name: max(map(cells, column)) for name, column in zip(columns, zip(*rows, strict=True), strict=True)}
    body = rows[1:] if headings else rows
    empty = {name for number, name in enumerate(columns) if all(row[number] == NONE for row in body)}
    widths = natural if width is None else _fit(natural, width, empty)
    lines = []
    for number, row in enumerate(rows):
        is_heading = headings and number == 0
        line = []
        for name, text in zip(columns, row, strict=True):
            if name in widths:
                short = _shortened(text, widths[name], COLUMNS[name].shortened)
                padding = " " * (widths[name] - cells(short))
                line.append((_coloured(short) if colour and name == "state" and not is_heading else short) + padding)
        lines.append(_GAP.join(line).rstrip())
    return "\n".join(lines)


def summary(workers: Sequence[Worker]) -> str:
    """Return the number of workers and of those in each state, the worst first: `3 workers: 1 lost, 2 active`."""
    from amp_workers.ctl.fields import severity_of, state_of

    states = [state_of(worker) for worker in workers]
    counts = ", ".join(f"{states.count(each)} {shown(each)}" for each in sorted(set(states), key=severity_of))
    return f"{len(workers)} worker{'' if len(workers) == 1 else 's'}" + (f": {counts}" if counts else "")


def csv(workers: Sequence[Worker], columns: Sequence[str] = CSV, *, headings: bool = True) -> str:
    """Return the values of the columns, empty where there is none, below a line with the fields' names."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if headings:
        writer.writerow(COLUMNS[name].field for name in columns)
    for worker in workers:
        values = (COLUMNS[name].value(worker) for name in columns)
        writer.writerow("" if value is None else shown(value) for value in values)
    return text.getvalue().rstrip("\n")


def cells(text: str) -> int:
    """Return how many cells of a terminal a text takes: none a combining character, two an East Asian wide one."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    return sum(0 if category(c) in {"Mn", "Me"} else 2 if east_asian_width(c) in {"W", "F"} else 1 for c in text)


def _fit(natural: dict[str, int], width: int, empty: Collection[str]) -> dict[str, int]:
    """Return the widths of the columns that fit. Texts that can be shortened share the room.

    empty: the columns without any value. Where they would shorten a text, they are omitted.
    """
    kept = dict(natural)
    for valueless in _GIVEN_UP_FIRST:
        if valueless in empty and sum(kept.values()) + len(_GAP) * (len(kept) - 1) > width:
            del kept[valueless]
    for name in (*_GIVEN_UP_FIRST, None):
        least = [min(size, _SHORTEST) if COLUMNS[each].shortened else size for each, size in kept.items()]
        if name is None or sum(least) + len(_GAP) * (len(kept) - 1) <= width:
            break
        if len(kept) > 1:
            kept.pop(name, None)
    left = width - len(_GAP) * (len(kept) - 1) - sum(kept[each] for each in kept if not COLUMNS[each].shortened)
    yielding = [each for each in kept if each in _YIELDING]
    least_size = sum(min(kept[each], _SHORTEST) for each in yielding)
    reserved = min(sum(kept[each] for each in yielding), max(least_size, (left - _PREFERRED) // 2))
    others = [each for each in kept if COLUMNS[each].shortened and each not in _YIELDING]
    left -= reserved
    left -= _share(kept, others, left)
    _share(kept, yielding, left + reserved)
    return kept


def _share(widths: dict[str, int], names: Sequence[str], available: int) -> int:
    """Set the widths of some columns to what is available for them, and return what they take."""
    left = available
    for number, name in enumerate(sorted(names, key=widths.__getitem__)):
        # The shortest first: what one does not need is left to the others.
        widths[name] = max(min(widths[name], left // (len(names) - number)), 1)
        left -= widths[name]
    return available - left


def _shortened(text: str, width: int, where: str) -> str:
    if not where or cells(text) <= width:
        return text
    tail = (width - 1) // 2 if where == "middle" else 0
    return f"{_first(text, width - 1 - tail)}…{_first(text[::-1], tail)[::-1]}"


def _first(text: str, width: int) -> str:
    """Return as much of a text as fits."""
    if text.isascii():
        return text[:width]
    end = next((end for end in range(len(text), 0, -1) if cells(text[:end]) <= width), 0)
    return text[:end]


def _coloured(state: str) -> str:
    return f"\x1b[{COLOURS[state]}m{state}\x1b[0m" if state in COLOURS else state
