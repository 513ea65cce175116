"""The alerts, in one table. Prometheus's rules, Grafana's and docs/alerts.md are made from it.

Texts have `{job}`, `{node_id}` for a label and `{value:duration}`, `{value:percentage}`, `{value:count}` for the
value, which the two products write differently.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from grafana.builder import recording_rules as record
from grafana.builder.durations import promql
from grafana.builder.links import EXPORTER_UID, FLEET_UID, WORKER_UID
from grafana.builder.recording_rules import SELECTED
from grafana.builder.thresholds import (
    AHEAD_FOR,
    AHEAD_SECONDS,
    EXPORTER_DOWN_FOR,
    LAGGING_FOR,
    LAGGING_SECONDS,
    LOST_SECONDS,
    METADATA_DB_DOWN_FOR,
    NO_ACTIVE_FOR,
    OUTAGES,
    OUTAGES_WITHIN,
    RESTARTS,
    RESTARTS_RECENT,
    RESTARTS_WITHIN,
    SETTLING,
    SHARE_AT_LEAST,
    SHARE_OF_FLEET,
    SILENT_SECONDS,
    SLOW_FOR,
    SLOW_SECONDS,
    UNSETTLED_FOR,
    VERSIONS_FOR,
)


class Severity(StrEnum):
    CRITICAL = "critical"
    """Somebody has to get up."""

    WARNING = "warning"
    """Somebody has to look, in working hours."""


class Scope(StrEnum):
    """What is wrong. The wider silences the narrower: see grafana/alertmanager.yml."""

    EXPORTER = "exporter"
    METADATA_DB = "metadata_db"
    FLEET = "fleet"
    WORKER = "worker"


@dataclass(frozen=True)
class Alert:
    name: str
    severity: Severity
    scope: Scope
    query: str
    above: float | None = None
    below: float | None = None
    """It fires for each series of the query whose value is above, or below."""

    pending: timedelta = timedelta(0)
    """For how long its condition must last before it fires: `for` in a rule."""

    summary: str = ""
    description: str = ""
    dashboard: str = FLEET_UID
    slow: bool = False
    """Whether it reads so much of the past that it is evaluated every 30 s only."""

    needs_all_workers: bool = False
    """Whether it needs --collector.workers=all, as it is about workers that are neither stale nor lost."""

    @property
    def condition(self) -> str:
        if self.above is not None:
            return f"> {self.above:g}"
        assert self.below is not None
        return f"< {self.below:g}"


ALERTS = (
    Alert(
        "AmpExporterDown",
        Severity.CRITICAL,
        Scope.EXPORTER,
        record.EXPORTERS_UP,
        below=1,
        pending=EXPORTER_DOWN_FOR,
        summary="No exporter of {job} answers",
        description="Prometheus has had no answer from any exporter of {job} for over "
        f"{promql(EXPORTER_DOWN_FOR)}. Nothing is known of its workers; alerts about them stay as they were.",
        dashboard=EXPORTER_UID,
    ),
    Alert(
        "AmpMetadataDbUnreachable",
        Severity.CRITICAL,
        Scope.METADATA_DB,
        record.METADATA_DB_UP,
        below=1,
        pending=METADATA_DB_DOWN_FOR,
        summary="The metadata DB of {job} does not answer",
        description="The exporter runs, but the metadata DB of {job} has not answered it for over "
        f"{promql(METADATA_DB_DOWN_FOR)}. Perhaps workers cannot write heartbeats either; nothing is known of "
        "them, and alerts about them stay as they were.",
        dashboard=EXPORTER_UID,
    ),
    Alert(
        "AmpMetadataDbLagging",
        Severity.WARNING,
        Scope.METADATA_DB,
        record.REPLAY_LAG,
        above=LAGGING_SECONDS,
        pending=LAGGING_FOR,
        summary="The metadata DB of {job} is a standby that lags",
        description="The exporter of {job} reads from a standby that has lagged behind its primary for over "
        f"{promql(LAGGING_FOR)}, now by {{value:duration}}. Live workers look stale or lost there. Read from the "
        "primary.",
        dashboard=EXPORTER_UID,
    ),
    Alert(
        "AmpFleetUnsettled",
        Severity.CRITICAL,
        Scope.EXPORTER,
        f"{record.EXPORTERS_UP} unless on (job) {record.SETTLED}",
        above=-1,  # however many answer: none is 0, and a failed scrape must not begin the minutes anew
        pending=UNSETTLED_FOR,
        summary="Alerts about workers of {job} have been held back for minutes",
        description="For over "
        f"{promql(UNSETTLED_FOR)}, no exporter of {{job}} has had the metadata DB's answers for "
        f"{promql(SETTLING)} on end. Until one has, no alert about a worker fires or resolves.",
        dashboard=EXPORTER_UID,
    ),
    Alert(
        "AmpNoActiveWorkers",
        Severity.CRITICAL,
        Scope.FLEET,
        record.ACTIVE,
        below=1,
        pending=NO_ACTIVE_FOR,
        summary="No worker of {job} is active",
        description="{job} has no active worker: nothing is extracted. The metadata DB answers; they ended, or cannot "
        "write to it.",
    ),
    Alert(
        "AmpFleetShareLost",
        Severity.CRITICAL,
        Scope.FLEET,
        f"{record.SILENT_RATIO} and on (job) {record.SILENT} >= {SHARE_AT_LEAST}",
        above=SHARE_OF_FLEET,
        summary="{value:percentage} of the workers of {job} are silent",
        description="{value:percentage} of the workers of {job} that did not stop on purpose have written no heartbeat "
        f"for over {SILENT_SECONDS} s. They fell silent within the last hour.",
    ),
    Alert(
        "AmpWorkerHeartbeatStale",
        Severity.WARNING,
        Scope.WORKER,
        record.SILENCE,
        above=SILENT_SECONDS,
        summary="Worker {node_id} of {job} is silent",
        description="The last heartbeat of worker {node_id} of {job} is {value:duration} away from now. It did not "
        "stop on purpose: it was killed, hangs, or is cut off from the metadata DB.",
        dashboard=WORKER_UID,
    ),
    Alert(
        "AmpWorkerLost",
        Severity.WARNING,
        Scope.WORKER,
        record.SILENCE,
        above=LOST_SECONDS,
        summary="Worker {node_id} of {job} is lost",
        description="The last heartbeat of worker {node_id} of {job} is {value:duration} away from now. The worker is "
        "unlikely to recover without intervention. The alert also resolves when the worker is forgotten, after a day.",
        dashboard=WORKER_UID,
    ),
    Alert(
        "AmpWorkerRestarting",
        Severity.WARNING,
        Scope.WORKER,
        "max by (job, node_id) (\n"
        f"  changes(amp_worker_registered_timestamp_seconds{{{SELECTED}}}[{promql(RESTARTS_WITHIN)}])\n"
        f"  and changes(amp_worker_registered_timestamp_seconds{{{SELECTED}}}[{promql(RESTARTS_RECENT)}]) > 0\n"
        ")",
        above=RESTARTS - 1,
        summary="Worker {node_id} of {job} keeps restarting",
        description="Worker {node_id} of {job} registered {value:count} times within "
        f"{promql(RESTARTS_WITHIN)}, the last time within {promql(RESTARTS_RECENT)}.",
        dashboard=WORKER_UID,
        slow=True,
        needs_all_workers=True,
    ),
    Alert(
        "AmpHeartbeatFromTheFuture",
        Severity.WARNING,
        Scope.WORKER,
        record.AHEAD,
        above=AHEAD_SECONDS,
        pending=AHEAD_FOR,
        summary="The heartbeat of {node_id} of {job} lies in the future",
        description="The heartbeat of worker {node_id} of {job} is {value:duration} ahead of the metadata DB's clock. "
        "A live worker overwrites it within a second. Either the clock was set back and the worker is dead, or another "
        "program writes heartbeats by its own clock.",
        dashboard=WORKER_UID,
    ),
    Alert(
        "AmpVersionSkew",
        Severity.WARNING,
        Scope.FLEET,
        record.VERSIONS,
        above=1,
        pending=VERSIONS_FOR,
        summary="{job} runs {value:count} versions",
        description="Workers of {job} have been running {value:count} different versions for over "
        f"{promql(VERSIONS_FOR)}, longer than a rollout takes.",
    ),
    Alert(
        "AmpExporterSlow",
        Severity.WARNING,
        Scope.EXPORTER,
        f"max by (job, instance) (scrape_duration_seconds{{{SELECTED}}})",
        above=SLOW_SECONDS,
        pending=SLOW_FOR,
        summary="The exporter {instance} of {job} is slow",
        description="Each scrape of {instance} of {job} has been taking over "
        f"{SLOW_SECONDS} s for {promql(SLOW_FOR)}, the last one {{value:duration}}. At 80 % of Prometheus's scrape "
        "timeout the exporter gives up, and the metadata DB counts as away.",
        dashboard=EXPORTER_UID,
    ),
    Alert(
        "AmpExporterErrors",
        Severity.WARNING,
        Scope.EXPORTER,
        f"max by (job, instance) (changes(amp_metadata_db_up{{{SELECTED}}}[{promql(OUTAGES_WITHIN)}]))",
        above=2 * OUTAGES - 2,
        summary="The metadata DB of {job} comes and goes",
        description="The metadata DB of {job} went away or came back {value:count} times within "
        f"{promql(OUTAGES_WITHIN)}, as {{instance}} sees it.",
        dashboard=EXPORTER_UID,
    ),
)
