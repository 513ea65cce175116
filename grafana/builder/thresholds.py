"""Every number of the alerts and dashboards. `docs/alerts.md` is generated from these too."""

from datetime import timedelta

JOBS = "amp(-.+)?"
"""The names of scrape jobs that are Amp exporters, as a regular expression. A job is a fleet: one metadata DB."""

ADMIN_JOBS = "admin-amp(-.+)?"
"""The names of scrape jobs that are Admin APIs."""

SCRAPE_INTERVAL = timedelta(seconds=5)
"""For which all numbers are chosen. They are correct for any interval up to 60 s: alerts then fire later."""

EVALUATION_INTERVAL = timedelta(seconds=2.5)
"""Of the alerts, whatever `evaluation_interval` says: `for` counts in evaluations.

Half a scrape interval: an alert about a program that was not restarted waits for a scrape, an evaluation, FAILED_FOR
and Alertmanager, 20 s at most. A whole one would be a second too long.
"""

A_MINUTE = timedelta(seconds=65)
"""One minute, and a moment more: at a scrape interval of 60 s, one scrape alone must not make an alert fire.

A pod that moves to another node is unavailable for about half a minute; so is a fleet that is replaced all at once.
"""

CONFIRMED_WITHIN = timedelta(seconds=130)
"""Two scrapes count as consecutive within this time: two scrape intervals of 60 s, and a scrape's duration."""

LOST_SECONDS = 60
"""The default of the exporter's `--lost-after`, for the alert of that name."""

SILENT_AFTER_SCRAPE_SECONDS = 3
"""A worker is silent, and an alert fires, when its heartbeat is older than the scrape interval and this: 8 s at 5 s.

After an outage of the metadata DB between two scrapes, the heartbeat of every worker can be that old: the interval, 2 s
until a worker retries, and 1 s from heartbeat to heartbeat. With a smaller value, a short outage would look like the
loss of the fleet. With a larger one, every notification about a dead worker would arrive later. A metadata DB that
blocks writes for 8 s while no scrape fails (a lock on the table) still makes alerts fire until the next scrape.
"""

SILENT_SECONDS = SCRAPE_INTERVAL.seconds + SILENT_AFTER_SCRAPE_SECONDS

SILENT_BUCKETS = (10, 30, 60)
"""The same from the fleet's histogram, where workers have no series of their own: the first bucket above that age. For
intervals above 57 s it is the last one; an outage of nearly the whole interval may then count."""

SETTLING = timedelta(seconds=20)
"""After an outage of the metadata DB or the exporter, for how long alerts about workers keep their state.

Workers send heartbeats again within 2 s after the outage, but the first scrape may be earlier. Where the scrape
interval is longer, alerts keep their state until the second scrape.
"""

FORGET_JOB = timedelta(days=1)
"""For how long an exporter that is no longer among Prometheus's targets counts as down."""

SHARE_OF_FLEET = 0.2
SHARE_AT_LEAST = 2
"""The loss of one worker of a small fleet is not the loss of the fleet."""

LOSS_SECONDS = 3600
"""Workers that fell silent longer ago do not count in the share, and have alerts of their own again. Otherwise, rows of
removed pods would keep the fleet's alert firing for a day, and inhibit the alerts about other workers."""

UNSETTLED_FOR = timedelta(minutes=3)
"""For outages that follow each other, each shorter than the pending time of its own alert."""

NO_ACTIVE_FOR = A_MINUTE
AHEAD_SECONDS = 2
AHEAD_FOR = timedelta(seconds=30)

RESTARTS = 5
RESTARTS_WITHIN = timedelta(minutes=30)
RESTARTS_RECENT = timedelta(minutes=10)
"""A worker restarts in a loop with so many restarts within the first time, the last of them within the second.

A rollout, its rollback and the next attempt are three. Kubernetes waits up to 5 minutes before it restarts a program
that keeps failing: 5 restarts within 30 minutes include that.
"""

VERSIONS_FOR = timedelta(minutes=30)
"""How long a rollout may take."""

METADATA_DB_DOWN_FOR = timedelta(seconds=15)
"""After the second failed scrape: 20 s at a scrape interval of 5 s. A restart of PostgreSQL takes less."""

EXPORTER_DOWN_FOR = A_MINUTE
"""A restart of the exporter, or its pod's move to another node, takes less."""

REPLICA_DOWN_FOR = timedelta(minutes=5)
"""Of one of several exporters, or of the Admin API: no worker is affected."""

THRESHOLDS_DIFFER_FOR = timedelta(minutes=10)
"""A rollout of another setting to all exporters and Admin APIs takes less."""

FAILED_FOR = timedelta(seconds=10)
"""systemd and Kubernetes restart a program within 5 s after its first failure."""

STRANDED_FOR = A_MINUTE
"""A worker that is restarted under its node id takes its jobs over."""

NOT_PICKED_UP_SECONDS = 120

JOBS_ERROR_FOR = timedelta(minutes=30)
"""Amp retries a job in ERROR with exponential backoff."""

FATAL_WITHIN = timedelta(hours=1)

LAGGING_SECONDS = 5
"""From this lag of a standby on, live workers look stale there. The exporter's own threshold for its log line."""

LAGGING_FOR = timedelta(minutes=1)
"""By default, the replay waits for up to 30 s for a query that is in its way (max_standby_streaming_delay)."""

SLOW_SECONDS = 2
SLOW_FOR = timedelta(minutes=2)

OUTAGES = 3
OUTAGES_WITHIN = timedelta(minutes=10)
