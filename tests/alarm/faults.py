"""What can go wrong with a deployment, how it is put right, and which alert has to tell of it."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.alarm.deployment import CUT_OFF, WORKERS, Deployment, freeze, kill
from tests.processes import eventually

HALF = WORKERS[: len(WORKERS) // 2]

PATIENCE_SECONDS = 120.0
"""How long a notification may take."""

RESTART_PAUSE_SECONDS = 6.0
"""Between two restarts of a worker in a loop: each is in a scrape of its own."""


@dataclass(frozen=True)
class Fault:
    """Something that must ring."""

    name: str
    inject: Callable[[Deployment], None]
    recover: Callable[[Deployment], None]
    alert: str
    """What has to ring first."""

    may: frozenset[str] = frozenset()
    """What else may ring while it lasts: something narrower, that was there first."""

    node_id: str | None = None
    target_seconds: float | None = None
    """At most, from the fault to the notification. From recovery to being told of it, it is 20 s then."""


@dataclass(frozen=True)
class Quiet:
    """Something at which nothing may ring."""

    name: str
    do: Callable[[Deployment], None]


def await_notification(deployment: Deployment, fault: Fault, *, firing: bool, since: float) -> None:
    eventually(lambda: deployment.bell.first(fault.alert, firing, since, fault.node_id), PATIENCE_SECONDS)


def one_cause_one_page(deployment: Deployment, fault: Fault) -> None:
    """Inject a fault and recover from it: its alert fires and resolves, and no other alert fires."""
    deployment.await_rest()
    began = time.monotonic()
    fault.inject(deployment)
    await_notification(deployment, fault, firing=True, since=began)
    # An alert for each worker would have fired by then.
    time.sleep(15)
    recovered = time.monotonic()
    fault.recover(deployment)
    await_notification(deployment, fault, firing=False, since=recovered)
    assert deployment.bell.alerts(began) - fault.may == {fault.alert}


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
    """Have half of the workers run a version."""

    def change(deployment: Deployment) -> None:
        for node_id in HALF:
            deployment.versions[node_id] = version
            restart_worker(deployment, node_id)

    return change


def restart_worker(deployment: Deployment, node_id: str) -> None:
    deployment.workers[node_id].stop()
    deployment.start_worker(node_id)
    deployment.workers[node_id].says("registered")


KILLED = Fault(
    "worker killed (SIGKILL)",
    kill_workers(WORKERS[:1]),
    start_workers(WORKERS[:1]),
    "AmpWorkerHeartbeatStale",
    node_id=WORKERS[0],
    target_seconds=20,
)
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
    """One worker stops on purpose, stays so for a while, and comes back."""
    assert deployment.workers[WORKERS[2]].stop() == 0
    time.sleep(30)
    deployment.start_worker(WORKERS[2])


def rolling_restart(deployment: Deployment) -> None:
    for node_id in WORKERS:
        restart_worker(deployment, node_id)


def restart_exporter(deployment: Deployment) -> None:
    deployment.exporter.stop()
    deployment.start_exporter()


QUIET = [
    Quiet("graceful stop of one worker", stop_gracefully),
    Quiet("rolling restart of the fleet", rolling_restart),
    Quiet("exporter restart", restart_exporter),
    Quiet("Prometheus restart", lambda deployment: deployment.restart_prometheus()),
]
