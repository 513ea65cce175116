"""The times at which alerts fire, by scrape interval. The rules are evaluated every 2.5 s at each interval."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.grafana.cases import (
    FLEET,
    NODE_IDS,
    Firing,
    failed,
    fleet,
    half_failed,
    rollout,
    silent,
    stuck,
    with_jobs,
)
from tests.grafana.scrapes import Jobs, Scrape, Worker

INTERVALS = (5, 15, 30, 60)
"""Scrape intervals in seconds."""

BEGIN, END, SECONDS = 310, 610, 900
"""The start and the end of the fault, and the duration of a case, in seconds."""


def during(fault: Callable[[int], Scrape], begin: int = BEGIN, end: int = END) -> Callable[[int], Scrape]:
    return lambda time: fault(time) if begin <= time < end else fleet()


def outage_of_the_metadata_db(begin: int, end: int) -> Callable[[int], Scrape]:
    """The first scrape after the outage precedes the next heartbeats of the workers."""

    def scrape(time: int) -> Scrape:
        if begin <= time < end:
            return Scrape(metadata_db_up=False)
        return Scrape({node_id: silent(time, begin) for node_id in NODE_IDS}) if time == end else fleet()

    return scrape


def half_down(time: int) -> Scrape:
    return Scrape(FLEET | {node_id: silent(time, BEGIN) for node_id in NODE_IDS[:5]})


@dataclass(frozen=True)
class Intervals:
    """A case, and the alerts that fire at each of INTERVALS."""

    name: str
    scrape: Callable[[int], Scrape | None]
    firing: Mapping[int, Firing]


AT_INTERVALS = [
    Intervals("a healthy fleet", lambda _: fleet(), {}),
    Intervals("a healthy fleet without series of workers", lambda _: Scrape(FLEET, series_of_workers=False), {}),
    Intervals(
        "a worker is killed",
        during(lambda time: fleet(worker_01=silent(time, BEGIN))),
        {
            5: {"AmpWorkerHeartbeatStale": (320, 605), "AmpWorkerLost": (370, 605)},
            15: {"AmpWorkerHeartbeatStale": (330, 610), "AmpWorkerLost": (375, 610)},
            30: {"AmpWorkerHeartbeatStale": (360, 625), "AmpWorkerLost": (390, 625)},
            60: {"AmpWorkerHeartbeatStale": (420, 655), "AmpWorkerLost": (420, 655)},
        },
    ),
    Intervals(
        "half the fleet is killed",
        during(half_down),
        {
            5: {"AmpFleetShareLost": (320, 605), "AmpWorkerHeartbeatStale": (320, 605), "AmpWorkerLost": (370, 605)},
            15: {"AmpFleetShareLost": (330, 610), "AmpWorkerHeartbeatStale": (330, 610), "AmpWorkerLost": (375, 610)},
            30: {"AmpFleetShareLost": (360, 625), "AmpWorkerHeartbeatStale": (360, 625), "AmpWorkerLost": (390, 625)},
            60: {"AmpFleetShareLost": (420, 655), "AmpWorkerHeartbeatStale": (420, 655), "AmpWorkerLost": (420, 655)},
        },
    ),
    Intervals(
        "half the fleet is killed, and workers have no series",
        during(lambda time: dataclasses.replace(half_down(time), series_of_workers=False)),
        {
            5: {"AmpFleetShareLost": (320, 605)},
            15: {"AmpFleetShareLost": (345, 610)},
            30: {"AmpFleetShareLost": (390, 625)},
            60: {"AmpFleetShareLost": (420, 655)},
        },
    ),
    Intervals(
        "a worker fails",
        during(lambda _: failed(1000)(100)),
        {
            5: {"AmpWorkerFailed": (320, 605)},
            15: {"AmpWorkerFailed": (340, 610)},
            30: {"AmpWorkerFailed": (370, 625)},
            60: {"AmpWorkerFailed": (430, 655)},
        },
    ),
    Intervals(
        "a worker fails, for another reason each minute",
        during(lambda time: fleet(worker_01=Worker(age=None, failure=f"exit code {time // 60 % 3}"))),
        {
            5: {"AmpWorkerFailed": (320, 605)},
            15: {"AmpWorkerFailed": (340, 610)},
            30: {"AmpWorkerFailed": (370, 625)},
            60: {"AmpWorkerFailed": (430, 655)},
        },
    ),
    Intervals(
        "half the fleet fails",
        during(lambda _: half_failed(100)),
        {
            5: {"AmpFleetShareLost": (320, 605), "AmpWorkerFailed": (320, 605)},
            15: {"AmpFleetShareLost": (315, 610), "AmpWorkerFailed": (340, 610)},
            30: {"AmpFleetShareLost": (330, 625), "AmpWorkerFailed": (370, 625)},
            60: {"AmpFleetShareLost": (360, 655), "AmpWorkerFailed": (430, 655)},
        },
    ),
    Intervals(
        "a worker is stuck",
        during(lambda _: stuck(100)),
        {
            5: {"AmpWorkerStuck": (310, 605)},
            15: {"AmpWorkerStuck": (315, 610)},
            30: {"AmpWorkerStuck": (330, 625)},
            60: {"AmpWorkerStuck": (360, 655)},
        },
    ),
    Intervals(
        "no worker has a row",
        during(lambda _: Scrape()),
        {
            5: {"AmpNoActiveWorkers": (375, 605)},
            15: {"AmpNoActiveWorkers": (380, 610)},
            30: {"AmpNoActiveWorkers": (395, 625)},
            60: {"AmpNoActiveWorkers": (425, 655)},
        },
    ),
    Intervals(
        "the metadata DB is unavailable",
        outage_of_the_metadata_db(BEGIN, END),
        {
            5: {"AmpMetadataDbUnreachable": (330, 605)},
            15: {"AmpMetadataDbUnreachable": (345, 610)},
            30: {"AmpMetadataDbUnreachable": (375, 625)},
            60: {"AmpMetadataDbUnreachable": (435, 655)},
        },
    ),
    Intervals(
        "the exporter is unavailable",
        during(lambda _: Scrape(up=False)),
        {
            5: {"AmpExporterDown": (375, 605)},
            15: {"AmpExporterDown": (380, 610)},
            30: {"AmpExporterDown": (395, 625)},
            60: {"AmpExporterDown": (425, 655)},
        },
    ),
    Intervals(
        "jobs are stranded",
        with_jobs(lambda time: Jobs(stranded={"worker-91": 2} if BEGIN <= time < END else {})),
        {
            5: {"AmpJobsStranded": (375, 605)},
            15: {"AmpJobsStranded": (380, 610)},
            30: {"AmpJobsStranded": (395, 625)},
            60: {"AmpJobsStranded": (425, 655)},
        },
    ),
    Intervals(
        "a heartbeat lies in the future",
        during(lambda _: fleet(worker_01=Worker(age=-4.0))),
        {
            5: {"AmpHeartbeatFromTheFuture": (340, 605)},
            15: {"AmpHeartbeatFromTheFuture": (345, 610)},
            30: {"AmpHeartbeatFromTheFuture": (360, 625)},
            60: {"AmpHeartbeatFromTheFuture": (390, 655)},
        },
    ),
    Intervals(
        "a worker restarts every minute",
        during(lambda time: fleet(worker_01=Worker(registered=float(time // 60 * 60)))),
        {
            5: {"AmpWorkerRestarting": (540, 900)},
            15: {"AmpWorkerRestarting": (540, 900)},
            30: {"AmpWorkerRestarting": (540, 900)},
            60: {"AmpWorkerRestarting": (600, 900)},
        },
    ),
    Intervals(
        "the exporter is unavailable every other minute",
        during(lambda time: dataclasses.replace(fleet(), up=time % 120 >= 60)),
        {
            5: {},
            15: {},
            30: {},
            60: {"AmpFleetUnsettled": (540, 715)},
        },
    ),
    Intervals("a restart of the metadata DB, which a scrape sees", outage_of_the_metadata_db(600, 615), {}),
    Intervals(
        "a restart of the metadata DB between two scrapes",
        outage_of_the_metadata_db(605, 660),
        {
            5: {"AmpMetadataDbUnreachable": (625, 655)},
            15: {"AmpMetadataDbUnreachable": (645, 655)},
            30: {},
            60: {},
        },
    ),
    Intervals("a restart of the exporter, which a scrape sees", during(lambda _: Scrape(up=False), 600, 620), {}),
    Intervals("a worker fails in a scrape, and is restarted", during(lambda _: failed(1000)(100), 600, 605), {}),
    Intervals("a rollout in ten minutes", rollout(10), {}),
    Intervals("a restart of Prometheus", lambda time: None if 300 < time < 400 else fleet(), {}),
]
