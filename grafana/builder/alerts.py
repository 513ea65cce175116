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
    ADMIN_JOBS,
    AHEAD_FOR,
    AHEAD_SECONDS,
    EXPORTER_DOWN_FOR,
    FAILED_FOR,
    FATAL_WITHIN,
    FORGET_JOB,
    JOBS_ERROR_FOR,
    LAGGING_FOR,
    LAGGING_SECONDS,
    LOST_SECONDS,
    METADATA_DB_DOWN_FOR,
    NO_ACTIVE_FOR,
    NOT_PICKED_UP_SECONDS,
    OUTAGES,
    OUTAGES_WITHIN,
    REPLICA_DOWN_FOR,
    RESTARTS,
    RESTARTS_RECENT,
    RESTARTS_WITHIN,
    SETTLING,
    SHARE_AT_LEAST,
    SHARE_OF_FLEET,
    SILENT_SECONDS,
    SLOW_FOR,
    SLOW_SECONDS,
    STRANDED_FOR,
    THRESHOLDS_DIFFER_FOR,
    UNSETTLED_FOR,
    VERSIONS_FOR,
)


class Severity(StrEnum):
    CRITICAL = "critical"
    """Needs action now, at any hour."""

    WARNING = "warning"
    """Needs a look in working hours."""

    NONE = "none"
    """Needs nothing: it proves that alerts arrive."""


class Scope(StrEnum):
    """What is wrong. The wider scope inhibits the narrower one: see grafana/alertmanager.yml."""

    ALERTING = "alerting"
    ADMIN_API = "admin_api"
    EXPORTER = "exporter"
    METADATA_DB = "metadata_db"
    FLEET = "fleet"
    JOBS = "jobs"
    WORKER = "worker"


@dataclass(frozen=True)
class Alert:
    name: str
    severity: Severity
    scope: Scope
    query: str
    above: float | None = None
    below: float | None = None
    """The alert fires for each series of the query whose value is above, or below."""

    pending: timedelta = timedelta(0)
    """For how long the condition must last before the alert fires: `for` in a rule."""

    summary: str = ""
    description: str = ""
    dashboard: str = FLEET_UID
    slow: bool = False
    """Whether it reads so much history that it is evaluated every 30 s only."""

    needs_all_workers: bool = False
    """Whether it needs --collector.workers=all, because it is about workers that are neither stale nor lost."""

    @property
    def condition(self) -> str:
        if self.above is not None:
            return f"> {self.above:g}"
        assert self.below is not None
        return f"< {self.below:g}"


_ADMIN_UP = f'up{{job=~"{ADMIN_JOBS}"}}'

ALERTS = (
    Alert(
        "AmpWatchdog",
        Severity.NONE,
        Scope.ALERTING,
        "vector(1)",
        above=0,
        summary="Prometheus evaluates the rules, and Alertmanager sends notifications",
        description="This alert always fires. Send it to a service outside this deployment that notifies you when it "
        "stops: Prometheus, Alertmanager or a service between it and you is then broken, and no other alert arrives.",
        dashboard=EXPORTER_UID,
    ),
    Alert(
        "AmpExporterDown",
        Severity.CRITICAL,
        Scope.EXPORTER,
        record.EXPORTERS_UP,
        below=1,
        pending=EXPORTER_DOWN_FOR,
        summary="No exporter of {job} answers",
        description=f"No exporter of {{job}} has answered Prometheus for {promql(EXPORTER_DOWN_FOR)}. The state of its "
        "workers is unknown; alerts about them keep their last state.",
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
        description="The exporter runs, but the metadata DB of {job} does not answer it. Workers may be unable to "
        "write heartbeats. Their state is unknown; alerts about them keep their last state.",
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
        f"{record.EXPORTERS_UP} unless on (job) {record.SETTLED} unless on (job) "
        'ALERTS{alertname=~"AmpExporterDown|AmpMetadataDbUnreachable", alertstate="firing"}',
        above=-1,  # any number of exporters: a failed scrape, which makes it 0, must not reset the pending time
        pending=UNSETTLED_FOR,
        summary="Alerts about workers of {job} are held back",
        description=f"For {promql(UNSETTLED_FOR)}, no exporter of {{job}} has answered without a failure for "
        f"{promql(SETTLING)} and in two scrapes. Until one does, no alert about a worker fires or resolves.",
        dashboard=EXPORTER_UID,
    ),
    Alert(
        "AmpNoActiveWorkers",
        Severity.CRITICAL,
        Scope.FLEET,
        f"{record.ACTIVE} and on (job) ({record.UNHEALTHY} > 0 or {record.ROWS} == 0)",
        below=1,
        pending=NO_ACTIVE_FOR,
        summary="No worker of {job} is active",
        description="{job} has no active worker: nothing is extracted. Its workers are stuck, stale, lost or failed, "
        "or the metadata DB has no row of any worker.",
    ),
    Alert(
        "AmpFleetShareLost",
        Severity.CRITICAL,
        Scope.FLEET,
        f"{record.DOWN_RATIO} and on (job) {record.DOWN} >= {SHARE_AT_LEAST}",
        above=SHARE_OF_FLEET,
        summary="{value:percentage} of the workers of {job} are down",
        description=f"{{value:percentage}} of the workers of {{job}} failed, or sent no heartbeat for {SILENT_SECONDS} "
        "s, within the last hour. Workers that stopped on purpose do not count.",
    ),
    Alert(
        "AmpWorkerHeartbeatStale",
        Severity.WARNING,
        Scope.WORKER,
        record.SILENCE,
        above=SILENT_SECONDS,
        summary="Worker {node_id} of {job} is silent",
        description="The last heartbeat of worker {node_id} of {job} is {value:duration} away from now, and no stop "
        "was recorded: it was killed, hangs, or is cut off from the metadata DB.",
        dashboard=WORKER_UID,
    ),
    Alert(
        "AmpWorkerLost",
        Severity.WARNING,
        Scope.WORKER,
        record.SILENCE,
        above=LOST_SECONDS,
        summary="Worker {node_id} of {job} is lost",
        description="The last heartbeat of worker {node_id} of {job} is {value:duration} away from now. It is unlikely "
        "to recover without intervention. The alert also resolves when the worker becomes forgotten, after 24 hours.",
        dashboard=WORKER_UID,
    ),
    Alert(
        "AmpWorkerFailed",
        Severity.WARNING,
        Scope.WORKER,
        record.FAILED,
        above=0,
        pending=FAILED_FOR,
        summary="Worker {node_id} of {job} failed",
        description="Worker {node_id} of {job} ended, not on purpose, and was not restarted: its program exited with "
        "an error, was killed, or could not be started. `ampctl worker inspect {node_id}` shows the failure.",
        dashboard=WORKER_UID,
    ),
    Alert(
        "AmpWorkerStuck",
        Severity.WARNING,
        Scope.WORKER,
        record.STUCK,
        above=0,
        summary="Worker {node_id} of {job} is stuck",
        description="Worker {node_id} of {job} sends heartbeats, but its program has not reported progress within the "
        "time that it promised.",
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
        "A live worker overwrites its heartbeat within a second. Either the worker is dead and the clock was set back, "
        "or another program writes heartbeats with a clock of its own.",
        dashboard=WORKER_UID,
    ),
    Alert(
        "AmpJobsStranded",
        Severity.CRITICAL,
        Scope.JOBS,
        record.STRANDED,
        above=0,
        pending=STRANDED_FOR,
        summary="{value:count} jobs of {job} are stranded",
        description="{value:count} jobs of {job} belong to workers that are lost, failed, stopped, forgotten or "
        "missing. No other worker takes them over.{most_stranded}",
    ),
    Alert(
        "AmpJobsNotPickedUp",
        Severity.WARNING,
        Scope.JOBS,
        record.NOT_PICKED_UP,
        above=NOT_PICKED_UP_SECONDS,
        summary="A job of {job} is not picked up by its worker",
        description="A job of {job} has been SCHEDULED on an active worker for {value:duration}. The worker sends "
        "heartbeats, but does not accept jobs.",
    ),
    Alert(
        "AmpJobsFailing",
        Severity.WARNING,
        Scope.JOBS,
        f"group by (job) (\n  min_over_time({record.JOBS_IN_ERROR}[{promql(JOBS_ERROR_FOR)}]) > 0\n"
        f"  and {record.JOBS_IN_ERROR} offset {promql(JOBS_ERROR_FOR)} > 0\n"
        f"  or abs(time() - {record.LAST_FATAL}) <= {FATAL_WITHIN.seconds}\n)",
        above=0,
        summary="Jobs of {job} fail",
        description=f"For {promql(JOBS_ERROR_FOR)}, every scrape has found a job of {{job}} in ERROR, or a job became "
        f"FATAL within the last {promql(FATAL_WITHIN)}.",
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
        "AmpThresholdsDiffer",
        Severity.WARNING,
        Scope.FLEET,
        record.THRESHOLD_DIFFERENCE,
        above=0,
        pending=THRESHOLDS_DIFFER_FOR,
        summary="Exporters and Admin APIs of {job} have different thresholds",
        description=f"For {promql(THRESHOLDS_DIFFER_FOR)}, --stale-after, --lost-after or --forget-after has differed "
        "between the exporters and Admin APIs of {job}, by up to {value:duration}. One worker has different states in "
        "`ampctl` and on the dashboards.",
        dashboard=EXPORTER_UID,
    ),
    Alert(
        "AmpExporterReplicaDown",
        Severity.WARNING,
        Scope.EXPORTER,
        f"min by (job, instance) (amp_metadata_db_up{{{SELECTED}}} or on (job, instance) up{{{SELECTED}}})",
        below=1,
        pending=REPLICA_DOWN_FOR,
        summary="The exporter {instance} of {job} does not work",
        description=f"For {promql(REPLICA_DOWN_FOR)}, the exporter {{instance}} of {{job}} has not answered, or the "
        "metadata DB has not answered it. Another one works: nothing is lost until that one fails too.",
        dashboard=EXPORTER_UID,
    ),
    Alert(
        "AmpExporterSlow",
        Severity.WARNING,
        Scope.EXPORTER,
        f"max by (job, instance) (scrape_duration_seconds{{{SELECTED}}})",
        above=SLOW_SECONDS,
        pending=SLOW_FOR,
        summary="The exporter {instance} of {job} is slow",
        description="Each scrape of {instance} of {job} has taken over "
        f"{SLOW_SECONDS} s for {promql(SLOW_FOR)}, the last one {{value:duration}}. At 80 % of Prometheus's scrape "
        "timeout the exporter gives up and reports the metadata DB as down.",
        dashboard=EXPORTER_UID,
    ),
    Alert(
        "AmpExporterErrors",
        Severity.WARNING,
        Scope.EXPORTER,
        f"max by (job, instance) (resets(amp_metadata_db_up{{{SELECTED}}}[{promql(OUTAGES_WITHIN)}]))",
        above=OUTAGES - 1,
        summary="The metadata DB of {job} is unavailable again and again",
        description="The metadata DB of {job} became unavailable {value:count} times within "
        f"{promql(OUTAGES_WITHIN)}, as seen by {{instance}}.",
        dashboard=EXPORTER_UID,
    ),
    Alert(
        "AmpAdminApiDown",
        Severity.WARNING,
        Scope.ADMIN_API,
        f"sum by (job) ({_ADMIN_UP}) or 0 * count by (job) (count_over_time({_ADMIN_UP}[{promql(FORGET_JOB)}]))",
        below=1,
        pending=REPLICA_DOWN_FOR,
        summary="No Admin API of {job} answers",
        description=f"No Admin API of the scrape job {{job}} has answered Prometheus for {promql(REPLICA_DOWN_FOR)}. "
        "`ampctl` and the fleet page do not work. Workers, metrics and the other alerts are not affected.",
        dashboard=EXPORTER_UID,
    ),
)
