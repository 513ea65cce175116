"""Every number of the alerts and dashboards, in its one place. `docs/alerts.md` is made from these too.

They suit a Prometheus that scrapes and evaluates every 5 s. With up to 15 s all of them work, if later, and an outage
of the metadata DB of 5 s to 15 s, which may then fall between two scrapes, may ring.
"""

from datetime import timedelta

JOBS = "amp(-.+)?"
"""The names of scrape jobs that are Amp exporters, as a regular expression. A job is a fleet: one metadata DB."""

STALE_SECONDS, LOST_SECONDS = 5, 60
"""The exporter's own bounds of the states (`--stale-after`, `--lost-after`), for the colours of dashboards."""

SILENT_SECONDS = 8
"""From this heartbeat age on a worker counts as silent, which is what rings.

Not 5 s, where it becomes stale: a metadata DB that was away for 5 s between two scrapes makes every worker up to
8 s old (5 s, plus 2 s until it tries again, plus 1 s from beat to beat). Not 10 s: with 5 s for the next scrape,
5 s for the next evaluation and 1 s in Alertmanager, a dead worker is to be told of within 20 s. What is left: a
metadata DB that stalls for some 8 s while no scrape fails (a lock on the table) rings, until the next scrape.
"""

SILENT_BUCKET_SECONDS = 10
"""The same from the fleet's histogram, where workers have no series of their own: the first bucket above."""

SETTLING = timedelta(seconds=20)
"""After an outage of the metadata DB or the exporter, for how long alerts about workers stay as they were.

Workers come back within 2 s of the metadata DB, but the first scrape may be faster. It has to be longer than the
scrape interval.
"""

FORGET_JOB = timedelta(days=1)
"""For how long an exporter that is no longer among Prometheus's targets is missed."""

SHARE_OF_FLEET = 0.2
SHARE_AT_LEAST = 2
"""One worker of a small fleet is a worker's problem, not the fleet's."""

LOSS_SECONDS = 3600
"""Only who fell silent within so long counts into the share. Rows of pods that are no more would keep it up for a day,
and hide what happens to the others; after this time each of the dead rings for itself."""

UNSETTLED_FOR = timedelta(minutes=3)
"""An exporter or a metadata DB that comes and goes is away for less, each time, than their own alerts ask for."""

NO_ACTIVE_FOR = timedelta(seconds=10)
AHEAD_SECONDS = 2
AHEAD_FOR = timedelta(seconds=30)

RESTARTS = 5
RESTARTS_WITHIN = timedelta(minutes=30)
RESTARTS_RECENT = timedelta(minutes=10)
"""A worker restarts in a loop with so many restarts within the first time, the last of them within the second.

Three are a rollout, its rollback and the next try. Kubernetes waits up to 5 minutes before it starts a program that
keeps failing again: 5 restarts within 30 minutes find that too.
"""

VERSIONS_FOR = timedelta(minutes=30)
"""How long a rollout may take."""

METADATA_DB_DOWN_FOR = timedelta(seconds=20)
"""A restart of PostgreSQL takes less."""

LAGGING_SECONDS = 5
"""From this lag of a standby on, live workers look stale there. The exporter's own threshold for its log line."""

LAGGING_FOR = timedelta(minutes=1)
"""By default, the replay waits for up to 30 s for a query that is in its way (max_standby_streaming_delay)."""

EXPORTER_DOWN_FOR = timedelta(seconds=10)
"""A restart of the exporter takes less."""

SLOW_SECONDS = 2
SLOW_FOR = timedelta(minutes=2)

OUTAGES = 3
OUTAGES_WITHIN = timedelta(minutes=10)
