"""Faults of a deployment, their repair and the alert that must fire; operations at which no alert may fire."""

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.alarm.deployment import CUT_OFF, INTERVAL, WITH_PROGRAM, WORKERS, Deployment, freeze, kill
from tests.metadata_db.amp import add_jobs
from tests.metadata_db.amp_jobs import Scheduler
from tests.processes import eventually

HALF = WORKERS[: len(WORKERS) // 2]

PATIENCE_SECONDS = 120.0
"""The maximum wait for a notification."""

RESTART_PAUSE_SECONDS = 6.0
"""The pause between two restarts of a worker in a loop: each restart is in a scrape of its own."""


@dataclass(frozen=True)
class Fault:
    """A fault that an operator must be notified of."""

    name: str
    inject: Callable[[Deployment], None]
    recover: Callable[[Deployment], None]
    alert: str
    """The alert that must fire first."""

    may: frozenset[str] = frozenset()
    """Other alerts that may fire during the fault: narrower ones, which fired before."""

    node_id: str | None = None
    target_seconds: int | None = None
    """The maximum time from the fault to the notification, at a scrape interval of 5 s. None if there is no target."""

    def target(self, interval: int) -> int | None:
        """Return the longest acceptable delay at a scrape interval: an alert needs two scrapes, or one at 5 s followed
        by `for`.
        """
        return None if self.target_seconds is None else self.target_seconds + 2 * (interval - INTERVAL)


@dataclass(frozen=True)
class Quiet:
    """An operation at which no alert may fire."""

    name: str
    do: Callable[[Deployment], None]


def await_notification(deployment: Deployment, fault: Fault, *, firing: bool, since: float) -> None:
    eventually(lambda: deployment.webhook.first(fault.alert, firing, since, fault.node_id), PATIENCE_SECONDS)


def one_cause_one_notification(deployment: Deployment, fault: Fault) -> None:
    """Inject a fault and recover from it: its alert fires and resolves, and no other alert fires."""
    deployment.await_rest()
    began = time.monotonic()
    fault.inject(deployment)
    await_notification(deployment, fault, firing=True, since=began)
    # By then, an alert per worker would have fired.
    time.sleep(15)
    recovered = time.monotonic()
    fault.recover(deployment)
    await_notification(deployment, fault, firing=False, since=recovered)
    assert deployment.webhook.alerts(began) - fault.may == {fault.alert}


def kill_workers(node_ids: Sequence[str]) -> Callable[[Deployment], None]:
    def inject(deployment: Deployment) -> None:
        for node_id in node_ids:
            kill(deployment.workers[node_id])

    return inject


def start_workers(node_ids: Sequence[str]) -> Callable[[Deployment], None]:
    def recover(deployment: Deployment) -> None:
        for node_id in node_ids:
            deployment.start_worker(node_id)
        for node_id in node_ids:
            deployment.workers[node_id].says("registered", 60)

    return recover


def stop_metadata_db(deployment: Deployment) -> None:
    assert deployment.server.pid is not None
    os.kill(deployment.server.pid, signal.SIGKILL)


def start_metadata_db(deployment: Deployment) -> None:
    while deployment.server.poll() is None:
        time.sleep(0.1)
    deployment.server.start(lambda _: None)


def restart_in_a_loop(deployment: Deployment) -> None:
    for _ in range(6):
        kill(deployment.workers[WORKERS[4]])
        deployment.start_worker(WORKERS[4])
        time.sleep(RESTART_PAUSE_SECONDS)


def set_version(version: str) -> Callable[[Deployment], None]:
    """Make half of the workers run a version."""

    def change(deployment: Deployment) -> None:
        for node_id in HALF:
            deployment.versions[node_id] = version
            restart_worker(deployment, node_id)

    return change


def restart_worker(deployment: Deployment, node_id: str) -> None:
    deployment.workers[node_id].stop()
    deployment.start_worker(node_id)
    deployment.workers[node_id].says("registered")


# No worker takes part in more than four restarts of a bench.detection: the fifth within 30 minutes is a restart loop.
_EXITS, _KILLED, _CRASHES = WITH_PROGRAM


def end_program(node_id: str, number: int) -> Callable[[Deployment], None]:
    """Send a signal to a worker's program, which ends the worker."""

    def inject(deployment: Deployment) -> None:
        deployment.program(node_id).send_signal(number)
        deployment.workers[node_id].wait()

    return inject


def strand_a_job(deployment: Deployment) -> None:
    """Stop a worker on purpose while one of Amp's jobs is assigned to it."""
    if not deployment.has_jobs:
        add_jobs(deployment.server.url)
        deployment.has_jobs = True
    with Scheduler(deployment.server.url) as scheduler:
        scheduler.update(scheduler.schedule(WORKERS[5]), "RUNNING")
    deployment.workers[WORKERS[5]].stop()


def end_the_job(deployment: Deployment) -> None:
    deployment.start_worker(WORKERS[5])
    with Scheduler(deployment.server.url) as scheduler:
        scheduler.execute("UPDATE jobs_status SET status = 'COMPLETED'")


KILLED = Fault(
    "worker killed (SIGKILL)",
    kill_workers(WORKERS[:1]),
    start_workers(WORKERS[:1]),
    "AmpWorkerHeartbeatStale",
    node_id=WORKERS[0],
    target_seconds=20,
)
KILLED_AT_60_S = dataclasses.replace(KILLED, alert="AmpWorkerLost")
"""At a scrape interval of 60 s, the worker is already lost at the first scrape that shows it silent: one alert inhibits
the other.
"""

FROZEN = Fault(
    "worker frozen (SIGSTOP)",
    lambda deployment: freeze(deployment.workers[WORKERS[1]]),
    lambda deployment: freeze(deployment.workers[WORKERS[1]], signal.SIGCONT),
    "AmpWorkerHeartbeatStale",
    node_id=WORKERS[1],
    target_seconds=20,
)
BLACK_HOLED = Fault(
    "worker's connection black-holed",
    lambda deployment: deployment.relay.open.clear(),
    lambda deployment: deployment.relay.open.set(),
    "AmpWorkerHeartbeatStale",
    node_id=CUT_OFF,
    target_seconds=20,
)
ALL_KILLED = Fault(
    "all workers killed",
    kill_workers(WORKERS),
    start_workers(WORKERS),
    "AmpFleetShareLost",
    frozenset({"AmpNoActiveWorkers", "AmpWorkerHeartbeatStale"}),
    target_seconds=20,
)
HALF_KILLED = Fault(
    "half the fleet killed",
    kill_workers(HALF),
    start_workers(HALF),
    "AmpFleetShareLost",
    frozenset({"AmpWorkerHeartbeatStale"}),
    target_seconds=20,
)
METADATA_DB_STOPPED = Fault(
    "metadata DB killed",
    stop_metadata_db,
    start_metadata_db,
    "AmpMetadataDbUnreachable",
    target_seconds=30,
)
EXPORTER_KILLED = Fault(
    "exporter killed",
    lambda deployment: kill(deployment.exporter),
    lambda deployment: deployment.start_exporter(),
    "AmpExporterDown",
    target_seconds=80,
)
EXPORTER_FROZEN = Fault(
    "exporter frozen",
    lambda deployment: freeze(deployment.exporter),
    lambda deployment: freeze(deployment.exporter, signal.SIGCONT),
    "AmpExporterDown",
    target_seconds=80,
)
EXITS_WITH_1 = Fault(
    "program exits with 1",
    end_program(_EXITS, signal.SIGUSR1),
    start_workers([_EXITS]),
    "AmpWorkerFailed",
    node_id=_EXITS,
    target_seconds=20,
)
PROGRAM_KILLED = Fault(
    "program killed (SIGKILL), its worker not",
    end_program(_KILLED, signal.SIGKILL),
    start_workers([_KILLED]),
    "AmpWorkerFailed",
    node_id=_KILLED,
    target_seconds=20,
)
HANGS = Fault(
    "program hangs, with `--watchdog 10`",
    lambda deployment: deployment.program(WITH_PROGRAM[1]).suspend(),
    lambda deployment: deployment.program(WITH_PROGRAM[1]).resume(),
    "AmpWorkerStuck",
    node_id=WITH_PROGRAM[1],
    target_seconds=30,
)
JOBS_STRANDED = Fault(
    "a worker with a job of Amp's is stopped",
    strand_a_job,
    end_the_job,
    "AmpJobsStranded",
    target_seconds=80,
)
RESTART_LOOP = Fault(
    "worker in a restart loop",
    restart_in_a_loop,
    lambda _: None,
    "AmpWorkerRestarting",
    node_id=WORKERS[4],
)
MIXED_VERSIONS = Fault(
    "mixed versions",
    set_version("v2"),
    set_version("v1"),
    "AmpVersionSkew",
)


def stop_gracefully(deployment: Deployment) -> None:
    """Stop one worker on purpose, and start it again after a pause."""
    assert deployment.workers[WORKERS[2]].stop() == 0
    time.sleep(20)  # long enough for an alert about a worker that died
    deployment.start_worker(WORKERS[2])


def rolling_restart(deployment: Deployment) -> None:
    for node_id in WORKERS:
        restart_worker(deployment, node_id)


def restart_exporter(deployment: Deployment) -> None:
    deployment.exporter.stop()
    deployment.start_exporter()


def end_a_batch(deployment: Deployment) -> None:
    """Let all programs exit with 0, and start the next batch after a pause."""
    for node_id in WITH_PROGRAM:
        deployment.program(node_id).send_signal(signal.SIGUSR2)
    for node_id in WITH_PROGRAM:
        assert deployment.workers[node_id].wait() == 0
    time.sleep(30)
    start_workers(WITH_PROGRAM)(deployment)


def crash_and_restart(deployment: Deployment) -> None:
    """Restart as systemd does after a crash, with the longest RestartSec= of the units."""
    end_program(_CRASHES, signal.SIGKILL)(deployment)
    time.sleep(5)
    start_workers([_CRASHES])(deployment)


PROGRAMS_QUIET = [
    Quiet("a batch whose programs end with 0", end_a_batch),
    Quiet("a crash that systemd restarts within 5 s", crash_and_restart),
]
QUIET = [
    Quiet("graceful stop of one worker", stop_gracefully),
    Quiet("rolling restart of the fleet, programs included", rolling_restart),
    Quiet("exporter restart", restart_exporter),
    Quiet("Prometheus restart", lambda deployment: deployment.restart_prometheus()),
]
