"""The worker families of one scrape: one series a worker, written straight into the exposition format.

prometheus-client would make six objects a worker first: 0.39 s for 10,000 workers, where this takes 0.03 s. Both
of its formats write a gauge alike, so that one text serves both.
"""

from collections.abc import Collection, Iterator, Sequence

from exporter.families import (
    WORKER_CREATED_TIMESTAMP,
    WORKER_HEARTBEAT_AGE,
    WORKER_HEARTBEAT_TIMESTAMP,
    WORKER_INFO,
    WORKER_REGISTERED_TIMESTAMP,
    WORKER_STOPPED_TIMESTAMP,
    Family,
)
from metadata_db import Member, State


def render(members: Sequence[Member], names: Collection[str] | None = None) -> str:
    """Return the exposition of all worker families, or of those that are named. A family of no series is absent."""
    nodes = [escape(member.node_id) for member in members]
    parts: list[str] = []
    for family, lines in (
        (WORKER_HEARTBEAT_AGE, _ages(nodes, members)),
        (WORKER_HEARTBEAT_TIMESTAMP, _gauges(WORKER_HEARTBEAT_TIMESTAMP, nodes, [m.heartbeat_at for m in members])),
        (WORKER_REGISTERED_TIMESTAMP, _gauges(WORKER_REGISTERED_TIMESTAMP, nodes, [m.registered_at for m in members])),
        (WORKER_CREATED_TIMESTAMP, _gauges(WORKER_CREATED_TIMESTAMP, nodes, [m.created_at for m in members])),
        (WORKER_STOPPED_TIMESTAMP, _gauges(WORKER_STOPPED_TIMESTAMP, nodes, [m.stopped_at for m in members])),
        (WORKER_INFO, _infos(nodes, members)),
    ):
        if names is None or family.name in names:
            text = "".join(lines)
            if text:
                parts += (f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.type}\n", text)
    return "".join(parts)


def escape(value: str) -> str:
    """Escape a label's value as the exposition formats ask: backslash, quote and line feed."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return value


def _gauges(family: Family, nodes: Sequence[str], values: Sequence[float | None]) -> Iterator[str]:
    name = family.name
    for node, value in zip(nodes, values, strict=True):
        if value is not None:
            yield f'{name}{{node_id="{node}"}} {value!r}\n'


def _ages(nodes: Sequence[str], members: Sequence[Member]) -> Iterator[str]:
    ages = [None if member.state == State.STOPPED else member.heartbeat_age for member in members]
    return _gauges(WORKER_HEARTBEAT_AGE, nodes, ages)


def _infos(nodes: Sequence[str], members: Sequence[Member]) -> Iterator[str]:
    keys = WORKER_INFO.labels[1:]
    for node, member in zip(nodes, members, strict=True):
        labels = ",".join(f'{key}="{escape(value)}"' for key, value in zip(keys, member.info, strict=True))
        yield f'{WORKER_INFO.name}{{node_id="{node}",{labels}}} 1.0\n'
