"""The view model: what the templates show, as texts and numbers. Both pages are made from one reading of the fleet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote

from amp_workers.admin.page.durations import age_text, duration_text
from amp_workers.admin.page.query import ORDERS, Query
from amp_workers.admin.page.shared_fleet import REFRESH_SECONDS, Fleet, Reading
from amp_workers.metadata_db import (
    AGE_BOUNDS,
    FORGETTABLE,
    LABEL_LENGTH,
    RUNNING,
    STATES,
    UNHEALTHY,
    InvalidNodeId,
    Job,
    State,
    Thresholds,
    Worker,
    check_node_id,
)

PAGE_SIZE = 200

NONE = "-"
"""Stands for a value that does not apply, or is unknown."""

_MOST_VERSIONS = 6

_BAR_HEIGHT = 40

COLUMNS = {
    "state": "State",
    "node_id": "Node ID",
    "heartbeat": "Last seen",
    "version": "Version",
    "uptime": "Uptime",
    "jobs": "Jobs",
    "status": "Progress or failure",
}
"""The headings, by the value of `sort`."""


class Ticking(NamedTuple):
    """A duration or an age that grows while the page is open."""

    text: str
    seconds: float | None
    """At the moment of the answer. None for one that does not grow."""

    is_age: bool = True
    """Whether the text is that of an age."""


class Link(NamedTuple):
    """A link to the page with other parameters."""

    text: str
    url: str
    is_current: bool = False


@dataclass(frozen=True, slots=True)
class StateCount:
    """The workers in one state: a filter."""

    state: str
    count: int | None
    """None while it is unknown."""

    url: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class VersionShare:
    """The workers that run with one version: a filter."""

    version: str
    count: int
    percent: str
    url: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the histogram of heartbeat ages."""

    label: str
    count: int
    height: float


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading of a column, which is a link that sorts by it."""

    name: str
    text: str
    url: str
    direction: str | None
    """The value of `aria-sort`, for the column by which the list is sorted."""


@dataclass(frozen=True, slots=True)
class Row:
    """A worker in the list."""

    node_id: str
    path: str
    state: str
    seen: Ticking
    version: str
    uptime: Ticking
    jobs: str
    status: str


class StatusLine(NamedTuple):
    """How old the page is, or why it is outdated."""

    is_alarm: bool
    before: str
    """What comes before the age, or the duration."""

    since: Ticking
    after: str
    detail: str


class Moment(NamedTuple):
    """A moment in the history of a worker."""

    event: str
    at: str
    age: Ticking | None


def status_line(reading: Reading, lag: str | None, thresholds: Thresholds) -> StatusLine:
    """Return the line that says how old the page is. lag: the warning that the metadata DB lags behind its primary."""
    fleet, outage = reading.fleet, reading.outage
    if outage is not None:
        since = _ticking(outage.seconds, is_age=False)
        shown = (
            ". No read has succeeded since the Admin API started."
            if fleet is None
            else f". The page shows the workers as of {fleet.listing.read_at}."
        )
        return StatusLine(True, "The metadata DB has been unavailable for at least", since, shown, outage.message)
    assert fleet is not None
    detail = (
        f"stale after {duration_text(thresholds.stale_after)}, lost after {duration_text(thresholds.lost_after)}, "
        f"forgotten after {duration_text(thresholds.forget_after)}, by the clock of the metadata DB"
    )
    return StatusLine(False, f"As of {fleet.listing.read_at},", _ticking(fleet.age), "", lag or detail)


def refresh_milliseconds(reading: Reading) -> int:
    """Return after how long the next reading can be requested."""
    age = 0.0 if reading.fleet is None or reading.outage is not None else reading.fleet.age
    return round(1000 * max(REFRESH_SECONDS - age, 1.0))


def state_counts(reading: Reading, query: Query) -> list[StateCount]:
    """Return the filters by state."""
    known = None if reading.fleet is None else reading.fleet.states
    return [
        StateCount(
            state=state,
            count=None if known is None else known[state],
            url=query.url(states=() if query.states == (state,) else (state,)),
            is_current=state in query.states,
        )
        for state in STATES
    ]


def groups_of_states(query: Query) -> list[Link]:
    """Return the filters that select every worker, and every worker that needs attention."""
    return [
        Link("all", query.url(states=()), not query.states),
        Link("unhealthy", query.url(states=UNHEALTHY), set(query.states) == set(UNHEALTHY)),
    ]


def version_shares(fleet: Fleet, query: Query) -> list[VersionShare]:
    """Return the most frequent versions of the workers that run."""
    running = sum(fleet.versions.values())
    return [
        VersionShare(
            version=version,
            count=count,
            percent=_percent(count, running),
            url=query.url(version=None if query.version == glob else glob),
            is_current=query.version == glob,
        )
        for version, count in list(fleet.versions.items())[:_MOST_VERSIONS]
        for glob in [version if len(version) < LABEL_LENGTH else f"{version}*"]
    ]


def histogram(fleet: Fleet | None) -> list[Bar]:
    """Return the heartbeat ages, one bar for each bucket. Without a fleet, all bars are empty."""
    counts = [0] * (len(AGE_BOUNDS) + 1) if fleet is None else fleet.ages
    labels = [*(f"≤ {duration_text(bound)}" for bound in AGE_BOUNDS), f"> {duration_text(AGE_BOUNDS[-1])}"]
    most = max(counts) or 1
    # A single worker must be visible beside 10,000.
    return [
        Bar(label, count, round(max(_BAR_HEIGHT * count / most, 2.0 if count else 0.0), 1))
        for label, count in zip(labels, counts, strict=True)
    ]


def headings(query: Query) -> Iterator[Heading]:
    """Return the headings of the list."""
    for name, text in COLUMNS.items():
        is_sorted = query.sort == name
        is_descending = ORDERS[name].is_descending != (is_sorted and query.is_reversed)
        yield Heading(
            name=name,
            text=text,
            url=query.url(sort=name, is_reversed=is_sorted and not query.is_reversed),
            direction=("descending" if is_descending else "ascending") if is_sorted else None,
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the workers that the filters select."""

    rows: Sequence[Row]
    first: int
    """The number of the first row, from 1."""

    selected: int
    total: int
    number: int
    last: int
    links: Sequence[Link]


def fleet_view(reading: Reading, query: Query) -> dict[str, object]:
    """Return what the template of the fleet shows."""
    fleet = reading.fleet
    return {
        "query": query,
        "contained": [f"*{glob}*" for glob in query.node_ids],
        "states": state_counts(reading, query),
        "groups": groups_of_states(query),
        "versions": [] if fleet is None else version_shares(fleet, query),
        "other_versions": 0 if fleet is None else max(len(fleet.versions) - _MOST_VERSIONS, 0),
        "jobs": None if fleet is None else fleet.listing.jobs,
        "bars": histogram(fleet),
        "headings": list(headings(query)),
        "page": page_of_workers(reading, query),
        "unhealthy": None if fleet is None else sum(fleet.states[state] for state in UNHEALTHY),
    }


def page_of_workers(reading: Reading, query: Query) -> Page:
    """Return the page that the query asks for; the last one where there are fewer pages by now."""
    fleet = reading.fleet
    if fleet is None:
        return Page((), 0, 0, 0, 1, 1, ())
    found = query.select(fleet.listing.workers)
    last = max(-(-len(found) // PAGE_SIZE), 1)
    number = min(query.page, last)
    start = PAGE_SIZE * (number - 1)
    elapsed = None if reading.outage is not None else fleet.age
    rows = [_row(worker, elapsed) for worker in found[start : start + PAGE_SIZE]]
    wanted = {"first": 1, "previous": number - 1, "next": number + 1, "last": last}
    links = [Link(text, query.url(page=page), page == number or not 1 <= page <= last) for text, page in wanted.items()]
    return Page(rows, start + 1, len(found), len(fleet.listing.workers), number, last, links if last > 1 else ())


def _row(worker: Worker, elapsed: float | None) -> Row:
    """elapsed: seconds since the read; None where the read is too old for ages that grow."""
    uptime = _uptime(worker)
    return Row(
        node_id=worker["node_id"],
        path=worker_path(worker["node_id"]),
        state=worker["state"],
        seen=_since_read(worker["heartbeat_age_seconds"], elapsed),
        version=worker["info"]["version"][:LABEL_LENGTH],
        uptime=Ticking(NONE, None) if uptime is None else _since_read(uptime, elapsed, is_age=False),
        jobs=NONE if worker["jobs"] is None else f"{worker['jobs']:,}",
        status=_status(worker),
    )


def worker_path(node_id: str) -> str:
    """Return the path of a worker's page, relative to that of the fleet."""
    return f"w/{quote(node_id, safe='')}"


@dataclass(frozen=True, slots=True)
class WorkerView:
    """Everything of one worker."""

    node_id: str
    state: str | None
    """None for a node id under which no worker has registered, and which jobs name."""

    seen: Ticking | None
    facts: Sequence[tuple[str, str]]
    history: Sequence[Moment]
    commands: Sequence[str]
    status: str
    jobs: Sequence[Job] | None
    """None where they are unknown."""


def worker_view(node_id: str, reading: Reading, jobs: Sequence[Job] | None) -> WorkerView:
    """Return what is known of a node id. The reading must have the worker, or count a job of it."""
    fleet = reading.fleet
    assert fleet is not None
    worker = fleet.by_node_id.get(node_id)
    elapsed = None if reading.outage is not None else fleet.age
    commands = list(_commands(node_id, worker, has_jobs=fleet.listing.jobs is not None))
    if worker is None:
        return WorkerView(node_id, None, None, (), (), commands, NONE, jobs)
    uptime = _uptime(worker)
    facts = [
        ("Version", worker["info"]["version"]),
        ("Commit", worker["info"]["commit_sha"]),
        ("Commit timestamp", worker["info"]["commit_timestamp"]),
        ("Build date", worker["info"]["build_date"]),
        ("Uptime", NONE if uptime is None else duration_text(uptime)),
        ("Exit code", NONE if worker["exit_code"] is None else f"{worker['exit_code']}"),
        ("Failure", worker["failure"] or NONE),
        ("Progress", worker["progress"] or NONE),
        ("Unfinished jobs", "unknown" if worker["jobs"] is None else f"{worker['jobs']:,}"),
    ]
    return WorkerView(
        node_id=node_id,
        state=worker["state"],
        seen=_since_read(worker["heartbeat_age_seconds"], elapsed),
        facts=[(name, value[:LABEL_LENGTH]) for name, value in facts],
        history=list(_history(worker, elapsed)),
        commands=commands,
        status=_status(worker),
        jobs=jobs,
    )


def _commands(node_id: str, worker: Worker | None, *, has_jobs: bool) -> Iterator[str]:
    """Return the commands for a node id; none for one that `ampctl` does not take, whatever wrote it into the table."""
    try:
        check_node_id(node_id)
    except InvalidNodeId:
        return
    if worker is not None:
        yield f"ampctl worker inspect {node_id}"
        yield f"ampctl worker list {node_id} --watch"
    if has_jobs:
        yield f"ampctl worker jobs {node_id}"
    if worker is not None and worker["state"] in FORGETTABLE:
        yield f"ampctl worker forget {node_id}"


def _history(worker: Worker, elapsed: float | None) -> Iterator[Moment]:
    """Return the known moments, the earliest first."""
    named = {
        "created": worker["created_at"],
        "registered": worker["registered_at"],
        "last progress": worker["progress_at"],
        "last heartbeat": worker["heartbeat_at"],
        ("failed" if worker["failure"] else "stopped"): worker["stopped_at"],
    }
    known = [(event, at) for event, at in named.items() if at is not None]
    for event, at in sorted(known, key=lambda each: each[1]):
        yield Moment(event, at, _since_read(_age_at_read(worker, at), elapsed))


def _status(worker: Worker) -> str:
    """Return why a worker failed, or what it reports of its progress."""
    if worker["failure"]:
        return worker["failure"]
    if worker["state"] == State.STUCK and worker["progress_at"] is not None:
        silent = f"no progress for {duration_text(abs(_age_at_read(worker, worker['progress_at'])))}"
        return f"{silent}: {worker['progress']}" if worker["progress"] else silent
    if worker["progress"]:
        return worker["progress"]
    return NONE if worker["exit_code"] is None else f"exit code {worker['exit_code']}"


def _uptime(worker: Worker) -> float | None:
    """Return the seconds since the registration; None for a worker that does not run."""
    if worker["state"] not in RUNNING:
        return None
    return max(_age_at_read(worker, worker["registered_at"]), 0.0)


def _age_at_read(worker: Worker, at: str) -> float:
    """Return how long before the read a moment was, by the database's clock: from a worker's own heartbeat on."""
    heartbeat, moment = datetime.fromisoformat(worker["heartbeat_at"]), datetime.fromisoformat(at)
    return (heartbeat - moment).total_seconds() + worker["heartbeat_age_seconds"]


def _since_read(seconds: float, elapsed: float | None, *, is_age: bool = True) -> Ticking:
    if elapsed is None:
        return Ticking(age_text(seconds) if is_age else duration_text(seconds), None, is_age)
    return _ticking(seconds + elapsed, is_age=is_age)


def _ticking(seconds: float, *, is_age: bool = True) -> Ticking:
    return Ticking(age_text(seconds) if is_age else duration_text(seconds), round(seconds, 1), is_age)


def _percent(part: int, whole: int) -> str:
    """Return a share. One that is neither none nor all is never shown as 0 or 100 percent."""
    percent = round(100 * part / whole)
    if percent == 0:
        return "< 1 %"
    return "> 99 %" if percent == 100 and part < whole else f"{percent} %"
