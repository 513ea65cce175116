"""Events of a fleet, and the alerts that must fire, with their first and last times. No other alert may fire at any
time.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.grafana.scrapes import Jobs, Scrape, Worker

Firing = Mapping[str, tuple[int, int]]
"""For each alert, the seconds of the first and of the last evaluation at which it fires."""

NODE_IDS = [f"worker-{number:02}" for number in range(1, 11)]
FLEET = {node_id: Worker() for node_id in NODE_IDS}


@dataclass(frozen=True)
class Case:
    name: str
    scrape: Callable[[int], Scrape | None]
    seconds: int = 180
    firing: Firing = field(default_factory=dict)


def fleet(**changed: Worker | None) -> Scrape:
    """Ten workers with changes; None removes a worker. `worker_01` stands for worker-01."""
    named = {name.replace("_", "-"): worker for name, worker in changed.items()}
    return Scrape({node_id: worker for node_id, worker in (FLEET | named).items() if worker is not None})


def silent(time: int, since: int) -> Worker:
    """A worker whose last heartbeat was half a second before `since`."""
    return Worker(age=time - since + 0.5)


def killed(time: int) -> Scrape:
    """Worker-01 dies at 60 s and is restarted at 200 s."""
    return fleet(worker_01=silent(time, 60) if 60 < time < 200 else Worker())


def some_killed(number: int) -> Callable[[int], Scrape]:
    """The first of the workers die at 60 s and are restarted at 120 s."""

    def scrape(time: int) -> Scrape:
        if not 60 < time < 120:
            return fleet()
        return Scrape(FLEET | {node_id: silent(time, 60) for node_id in NODE_IDS[:number]})

    return scrape


def half_killed_without_series(time: int) -> Scrape:
    return Scrape(some_killed(5)(time).workers, series_of_workers=False)


def metadata_db_unavailable(until: int) -> Callable[[int], Scrape]:
    """From 60 s on. At the first scrape after the outage, no worker has sent a heartbeat yet."""

    def scrape(time: int) -> Scrape:
        if 60 < time < until:
            return Scrape(metadata_db_up=False)
        if until <= time < until + 5:
            return Scrape({node_id: silent(time, 60) for node_id in NODE_IDS})
        return fleet()

    return scrape


def short_outage(time: int) -> Scrape:
    """The metadata DB is unavailable for 5 s between two scrapes. The second scrape precedes the next heartbeats."""
    return Scrape({node_id: Worker(age=7.9) for node_id in NODE_IDS}) if time == 60 else fleet()


def metadata_db_flaps(time: int) -> Scrape:
    """The metadata DB is unavailable for 10 s, three times, one minute apart."""
    unavailable = any(start < time <= start + 10 for start in (60, 120, 180))
    return Scrape(metadata_db_up=False) if unavailable else fleet()


def exporter_unavailable(until: int) -> Callable[[int], Scrape]:
    """From 60 s on."""
    return lambda time: Scrape(up=False) if 60 < time < until else fleet()


def slow(time: int) -> Scrape:
    """From 60 s to 240 s, scrapes take 2.5 s."""
    return Scrape(FLEET, seconds=2.5 if 60 < time < 240 else 0.03)


def rollout(minutes: int) -> Callable[[int], Scrape]:
    """From 60 s on, one worker after the other stops on purpose, and starts 5 s later with the next version."""

    def scrape(time: int) -> Scrape:
        pace = minutes * 60 / len(NODE_IDS)
        workers = {}
        for number, node_id in enumerate(NODE_IDS):
            stops = 60 + pace * number
            if time <= stops:
                workers[node_id] = Worker()
            elif time <= stops + 5:
                workers[node_id] = Worker(age=None)
            else:
                workers[node_id] = Worker(version="v2", registered=stops + 5)
        return Scrape(workers)

    return scrape


def stuck_rollout(time: int) -> Scrape:
    """From 60 s to 40 minutes, half the fleet runs another version."""
    if not 60 < time < 2400:
        return fleet()
    return Scrape(FLEET | dict.fromkeys(NODE_IDS[:5], Worker(version="v2")))


def restart_loop(times: int) -> Callable[[int], Scrape]:
    """Worker-01 restarts at 70 s, 80 s and so on, the given number of times."""
    return lambda time: fleet(worker_01=Worker(registered=max(0, min((time - 60) // 10, times)) * 10.0))


def ahead(time: int) -> Scrape:
    """From 60 s to 120 s, the heartbeat of worker-01 lies slightly in the future."""
    return fleet(worker_01=Worker(age=-4.0) if 60 < time < 120 else Worker())


def killed_and_the_clock_set_back(time: int) -> Scrape:
    """Worker-01 dies at 60 s, and the database's clock is set back by 40 s at once: its age begins at -40 s."""
    return fleet(worker_01=Worker(age=time - 100.0) if time > 60 else Worker())


def heartbeats_to_both_sides(time: int) -> Scrape:
    """From 60 s to 120 s, the heartbeats of five of ten workers are 40 s from now; two of them lie in the future."""
    if not 60 < time < 120:
        return fleet()
    ages = dict(zip(NODE_IDS[:5], (40.0, -40.0, 40.0, -40.0, 40.0), strict=True))
    return Scrape(FLEET | {node_id: Worker(age=age) for node_id, age in ages.items()})


def lagging(time: int) -> Scrape:
    """The standby replays nothing from 60 s to 180 s. The exporter is unavailable for a moment."""
    if not 60 < time < 180:
        return Scrape(FLEET, replay_lag=0)
    if 140 < time < 150:
        return Scrape(up=False)
    lag = time - 60.0
    return Scrape(dict.fromkeys(NODE_IDS, Worker(age=lag + 0.5)), replay_lag=lag)


def lagging_for_half_a_minute(time: int) -> Scrape:
    """A query delays the replay of the standby. Heartbeats keep their age."""
    return Scrape(FLEET, replay_lag=time - 60.0 if 60 < time < 90 else 0)


def killed_before_the_exporter(time: int) -> Scrape:
    """Worker-01 dies at 60 s and does not return. Then the exporter is unavailable, then the metadata DB."""
    if 100 < time < 130:
        return Scrape(up=False)
    if 160 < time < 180:
        return Scrape(metadata_db_up=False)
    return killed(time) if time < 200 else fleet(worker_01=silent(time, 60))


def exporter_flaps(time: int) -> Scrape:
    """Worker-01 dies at 60 s. From 50 s to 400 s, one of four scrapes fails."""
    if 50 <= time < 400 and time % 20 == 10:
        return Scrape(up=False)
    return fleet(worker_01=silent(time, 60)) if time > 60 else fleet()


def killed_and_no_target(time: int) -> Scrape:
    """Worker-01 dies at 60 s. From 100 s to 130 s, Prometheus has no target; then it has one at another address."""
    if 100 < time < 130:
        return Scrape(target=False)
    return fleet(worker_01=silent(time, 60)) if time > 60 else fleet()


def long_dead(time: int) -> Scrape:
    """Three active workers, and two rows of pods that were killed three hours ago."""
    living = {node_id: Worker() for node_id in NODE_IDS[:3]}
    return Scrape(living | {f"pod-{number}": Worker(age=10_800.0 + time) for number in (1, 2)})


def dead_for_an_hour(time: int) -> Scrape:
    """Three of ten workers were killed one hour before the time 120 s."""
    return Scrape(FLEET | dict.fromkeys(NODE_IDS[:3], Worker(age=3480.0 + time)))


def one_of_three_killed(time: int) -> Scrape:
    """A third of a small fleet is one worker."""
    living = {node_id: Worker() for node_id in NODE_IDS[:3]}
    return Scrape(living | ({NODE_IDS[0]: silent(time, 60)} if 60 < time < 120 else {}))


def failed(until: int, failure: str = "exit code 1") -> Callable[[int], Scrape]:
    """Worker-01 fails at 60 s and is restarted."""

    def scrape(time: int) -> Scrape:
        if not 60 < time < until:
            return fleet()
        return dataclasses.replace(fleet(worker_01=Worker(age=None, failure=failure)), failed_recently=1)

    return scrape


def failed_before_an_outage(time: int) -> Scrape:
    """Worker-01 fails at 60 s, and for another reason at 90 s. The metadata DB is unavailable from 100 s to 140 s."""
    if 100 < time < 140:
        return Scrape(metadata_db_up=False)
    return failed(1000, "exit code 1" if time < 90 else "killed by SIGKILL")(time)


def half_failed(time: int) -> Scrape:
    workers = FLEET | (dict.fromkeys(NODE_IDS[:5], Worker(age=None, failure="not found")) if 60 < time < 120 else {})
    return Scrape(workers, failed_recently=5 if 60 < time < 120 else 0)


def half_failed_without_series(time: int) -> Scrape:
    return dataclasses.replace(half_failed(time), series_of_workers=False)


def stuck(time: int) -> Scrape:
    """Worker-01 reports no progress from 60 s to 120 s."""
    return fleet(worker_01=Worker(stuck=60 < time < 120))


def all_stuck(time: int) -> Scrape:
    return Scrape(dict.fromkeys(NODE_IDS, Worker(stuck=60 < time < 240)))


def no_row(time: int) -> Scrape:
    """From 60 s to 240 s, the exporter reads another, empty database."""
    return Scrape() if 60 < time < 240 else fleet()


def stopped_beside_a_lost_one(time: int) -> Scrape:
    """From 60 s on, nine workers are stopped on purpose. The tenth was lost long before."""
    rest = dict.fromkeys(NODE_IDS[1:], Worker(age=None if time > 60 else 0.5))
    return Scrape({NODE_IDS[0]: Worker(age=7200.0 + time)} | rest)


def all_stopped(time: int) -> Scrape:
    """A batch job: all programs exit with 0 at 60 s."""
    return Scrape(dict.fromkeys(NODE_IDS, Worker(age=None if time > 60 else 0.5)))


def with_jobs(jobs: Callable[[int], Jobs | None]) -> Callable[[int], Scrape]:
    return lambda time: Scrape(FLEET, jobs=jobs(time))


def stranded(time: int) -> Jobs | None:
    """Five stranded jobs from 60 s to 240 s. The jobs are unknown from 150 s to 200 s."""
    if 150 < time < 200:
        return None
    return Jobs(stranded={"worker-91": 3, "worker-92": 2} if 60 < time < 240 else {})


def pair(time: int) -> Scrape:
    """The second exporter is unavailable from 60 s to 600 s."""
    return dataclasses.replace(fleet(), replica_up=not 60 < time < 600)


def pair_with_one_metadata_db(time: int) -> Scrape:
    """The metadata DB does not answer the second exporter from 60 s to 600 s."""
    return dataclasses.replace(fleet(), replica_up=True, replica_metadata_db_up=not 60 < time < 600)


def admin_api(time: int) -> Scrape:
    """The Admin API is unavailable from 60 s to 600 s."""
    return dataclasses.replace(fleet(), admin_up=not 60 < time < 600)


def other_threshold(time: int) -> Scrape:
    """The Admin API runs with another --stale-after from 60 s to 1200 s."""
    return dataclasses.replace(fleet(), admin_up=True, admin_stale_after=10 if 60 < time < 1200 else 5)


def metadata_db_and_exporter_unavailable(time: int) -> Scrape:
    """The metadata DB from 60 s on; the exporter as well, for a moment at 100 s."""
    if 100 <= time < 110:
        return Scrape(up=False)
    return metadata_db_unavailable(150)(time)


MUST_FIRE = [
    Case("a worker is killed", killed, 240, {"AmpWorkerHeartbeatStale": (70, 195), "AmpWorkerLost": (120, 195)}),
    Case(
        "half the fleet is killed",
        some_killed(5),
        180,
        {"AmpWorkerHeartbeatStale": (70, 115), "AmpFleetShareLost": (70, 115)},
    ),
    Case(
        "half the fleet is killed, and workers have no series",
        half_killed_without_series,
        180,
        {"AmpFleetShareLost": (70, 115)},
    ),
    Case(
        "the whole fleet is killed",
        some_killed(10),
        180,
        {"AmpWorkerHeartbeatStale": (70, 115), "AmpFleetShareLost": (70, 115)},
    ),
    Case("two of ten are killed, no more than the share", some_killed(2), 180, {"AmpWorkerHeartbeatStale": (70, 115)}),
    Case("the metadata DB is unavailable", metadata_db_unavailable(120), 240, {"AmpMetadataDbUnreachable": (85, 115)}),
    Case("one worker of a small fleet is killed", one_of_three_killed, 180, {"AmpWorkerHeartbeatStale": (70, 115)}),
    Case(
        "the metadata DB is unavailable, and the exporter for a moment",
        metadata_db_and_exporter_unavailable,
        240,
        {"AmpMetadataDbUnreachable": (85, 145)},
    ),
    Case("the metadata DB is unavailable again and again", metadata_db_flaps, 900, {"AmpExporterErrors": (185, 660)}),
    Case("the exporter is unavailable", exporter_unavailable(200), 300, {"AmpExporterDown": (130, 195)}),
    Case(
        "a standby lags, and all workers look lost",
        lagging,
        240,
        {
            "AmpMetadataDbLagging": (130, 175),
            "AmpWorkerHeartbeatStale": (70, 175),
            "AmpWorkerLost": (120, 175),
            "AmpFleetShareLost": (70, 175),
            "AmpNoActiveWorkers": (130, 175),
        },
    ),
    Case("the exporter is slow", slow, 300, {"AmpExporterSlow": (185, 235)}),
    Case("a rollout stops halfway", stuck_rollout, 2500, {"AmpVersionSkew": (1865, 2395)}),
    Case("a worker restarts in a loop", restart_loop(6), 900, {"AmpWorkerRestarting": (110, 715)}),
    Case("a heartbeat lies in the future", ahead, 180, {"AmpHeartbeatFromTheFuture": (95, 115)}),
    Case(
        "a worker is killed, and the database's clock set back",
        killed_and_the_clock_set_back,
        90,  # then the clock passes the heartbeat, which appears recent for some seconds
        {"AmpWorkerHeartbeatStale": (65, 90)},
    ),
    Case(
        "half the heartbeats are far away, to both sides",
        heartbeats_to_both_sides,
        180,
        {
            "AmpWorkerHeartbeatStale": (65, 115),
            "AmpFleetShareLost": (65, 115),
            "AmpHeartbeatFromTheFuture": (95, 115),
        },
    ),
    Case(
        "a dead worker stays dead while its state is unknown",
        killed_before_the_exporter,
        300,
        {"AmpWorkerHeartbeatStale": (70, 300), "AmpWorkerLost": (150, 300)},
    ),
    Case(
        "the exporter is no longer a target",
        lambda time: fleet() if time <= 60 else Scrape(target=False),
        600,
        {"AmpExporterDown": (130, 600)},
    ),
    Case(
        "there has never been an exporter",
        lambda _: Scrape(target=False),
        240,
        {"AmpExporterDown": (65, 240)},
    ),
    Case(
        "alerts about workers are held back by an exporter that flaps",
        exporter_flaps,
        500,
        {
            "AmpFleetUnsettled": (230, 410),
            "AmpWorkerHeartbeatStale": (415, 500),
            "AmpWorkerLost": (415, 500),
        },
    ),
    Case(
        "a dead worker stays dead while its exporter moves",
        killed_and_no_target,
        240,
        {"AmpWorkerHeartbeatStale": (70, 240), "AmpWorkerLost": (150, 240)},
    ),
    Case(
        "rows of workers that died long ago do not count as a loss of the fleet",
        long_dead,
        180,
        {"AmpWorkerHeartbeatStale": (20, 180), "AmpWorkerLost": (20, 180)},
    ),
    Case(
        "dead workers count as a loss of the fleet for an hour",
        dead_for_an_hour,
        180,
        {"AmpWorkerHeartbeatStale": (20, 180), "AmpWorkerLost": (20, 180), "AmpFleetShareLost": (20, 120)},
    ),
    Case("a worker fails", failed(120), 240, {"AmpWorkerFailed": (75, 115)}),
    Case(
        "a failed worker stays failed through an outage",
        failed_before_an_outage,
        240,
        {"AmpWorkerFailed": (75, 240), "AmpMetadataDbUnreachable": (125, 135)},
    ),
    Case(
        "half the fleet fails",
        half_failed,
        240,
        {"AmpWorkerFailed": (75, 115), "AmpFleetShareLost": (75, 115)},
    ),
    Case(
        "half the fleet fails, and workers have no series",
        half_failed_without_series,
        240,
        {"AmpFleetShareLost": (75, 115)},
    ),
    Case("a worker is stuck", stuck, 240, {"AmpWorkerStuck": (65, 115)}),
    Case("all workers are stuck", all_stuck, 300, {"AmpWorkerStuck": (65, 235), "AmpNoActiveWorkers": (130, 235)}),
    Case("no worker has a row", no_row, 300, {"AmpNoActiveWorkers": (130, 235)}),
    Case(
        "no worker is active, and one is lost",
        stopped_beside_a_lost_one,
        240,
        {"AmpWorkerHeartbeatStale": (20, 240), "AmpWorkerLost": (20, 240), "AmpNoActiveWorkers": (130, 240)},
    ),
    Case("jobs are stranded, and unknown for a while", with_jobs(stranded), 300, {"AmpJobsStranded": (130, 235)}),
    Case(
        "a job is not picked up",
        with_jobs(lambda time: Jobs(not_picked_up_age=time - 60.0 if 60 < time < 240 else None)),
        300,
        {"AmpJobsNotPickedUp": (185, 235)},
    ),
    Case(
        "a job is in ERROR at each scrape",
        with_jobs(lambda time: Jobs(in_error=1 if 60 < time < 2400 else 0)),
        2500,
        {"AmpJobsFailing": (1865, 2395)},
    ),
    Case(
        "a job becomes FATAL",
        with_jobs(lambda time: Jobs(last_fatal=100.0 if time > 100 else None)),
        3800,
        {"AmpJobsFailing": (105, 3700)},
    ),
    Case("the Admin API has another threshold", other_threshold, 1300, {"AmpThresholdsDiffer": (665, 1195)}),
    Case("one of two exporters is unavailable", pair, 700, {"AmpExporterReplicaDown": (365, 595)}),
    Case(
        "the metadata DB does not answer one of two exporters",
        pair_with_one_metadata_db,
        700,
        {"AmpExporterReplicaDown": (365, 595)},
    ),
    Case("the Admin API is unavailable", admin_api, 700, {"AmpAdminApiDown": (365, 595)}),
]

MUST_NOT_FIRE = [
    Case("ten quiet minutes", lambda _: fleet(), 600),
    Case("7 s without a heartbeat", lambda time: fleet(worker_01=Worker(age=7.5 if time == 60 else 0.5))),
    Case("an outage of the metadata DB between two scrapes", short_outage),
    Case("a restart of the metadata DB in 20 s", metadata_db_unavailable(85), 300),
    Case("an outage of the metadata DB that is shorter than the time to settle", metadata_db_unavailable(75)),
    Case("a restart of the exporter", exporter_unavailable(70)),
    Case("a standby lags for half a minute", lagging_for_half_a_minute),
    Case("a restart of Prometheus", lambda time: None if 60 < time < 100 else fleet()),
    Case("a rollout in ten minutes", rollout(10), 900),
    Case("a rollout, its rollback and the next try", restart_loop(3), 900),
    Case("a graceful stop", lambda time: fleet(worker_01=Worker(age=None if time > 60 else 0.5)), 600),
    Case("a graceful stop, and the row deleted", lambda time: fleet(worker_01=None if time > 60 else Worker())),
    Case(
        "a scale-down to half",
        lambda time: Scrape(FLEET | dict.fromkeys(NODE_IDS[:5], Worker(age=None if time > 60 else 0.5))),
        600,
    ),
    Case(
        "a scale-up",
        lambda time: Scrape(FLEET | ({f"new-{n}": Worker() for n in range(10)} if time > 60 else {})),
        600,
    ),
    Case(
        "one slow scrape",
        lambda time: Scrape(FLEET, seconds=3.5 if time == 60 else 0.03),
    ),
    Case("the Admin API has the same thresholds", lambda _: dataclasses.replace(fleet(), admin_up=True), 900),
    Case("the exporter moves to another node", exporter_unavailable(120), 300),
    Case("a worker fails, and is restarted within 5 s", failed(70)),
    Case("half the fleet fails, and is restarted within 5 s", lambda time: half_failed(time) if time < 70 else fleet()),
    Case("all programs of a batch end with 0", all_stopped, 600),
    Case("all workers are forgotten", lambda _: Scrape(forgotten=7), 300),
    Case(
        "a worker with jobs restarts",
        with_jobs(lambda time: Jobs(stranded={"worker-01": 2} if 60 < time < 110 else {})),
        300,
    ),
    Case(
        "a job succeeds at its second attempt",
        with_jobs(lambda time: Jobs(in_error=1 if time % 900 < 600 else 0)),
        3600,
    ),
]
