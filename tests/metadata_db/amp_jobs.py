"""The jobs of an Amp fleet, written as Amp's scheduler and workers write them."""

import json
from typing import Any, Self

from tests.metadata_db.amp import connect


class Scheduler:
    """A session of Amp's that schedules jobs and changes their status."""

    def __init__(self, url: str) -> None:
        self._session = connect(url)

    def schedule(self, node_id: str, dataset: str | None = "edge/blocks") -> int:
        """Assign a new job to a worker; return the job's id."""
        [(job_id,)] = self._session.execute("INSERT INTO jobs (descriptor) VALUES ('{}') RETURNING id").fetchall()
        self._session.execute(
            "INSERT INTO jobs_status (job_id, node_id, status, updated_at) VALUES (%s, %s, 'SCHEDULED', "
            "timezone('UTC', now())) ON CONFLICT (job_id) DO NOTHING",
            [job_id, node_id],
        )
        self._add_event(job_id, node_id, "SCHEDULED", dataset)
        return int(job_id)

    def update(self, job_id: int, status: str) -> None:
        """Change the status of a job, and write the event."""
        [(node_id,)] = self._session.execute(
            "UPDATE jobs_status SET status = %s, updated_at = timezone('UTC', now()) WHERE job_id = %s "
            "RETURNING node_id",
            [status, job_id],
        ).fetchall()
        self._add_event(job_id, node_id, status, None)

    def reschedule(self, job_id: int, node_id: str, dataset: str = "edge/blocks") -> None:
        """Assign a job to another worker."""
        self._session.execute(
            "UPDATE jobs_status SET status = 'SCHEDULED', node_id = %s, updated_at = timezone('UTC', now()) "
            "WHERE job_id = %s",
            [node_id, job_id],
        )
        self._add_event(job_id, node_id, "SCHEDULED", dataset)

    def age(self, job_id: int, seconds: float) -> None:
        """Make the status of a job older by some seconds."""
        self._session.execute(
            "UPDATE jobs_status SET updated_at = updated_at - make_interval(secs => %s) WHERE job_id = %s",
            [seconds, job_id],
        )

    def execute(self, statement: str, *parameters: object) -> None:
        self._session.execute(statement.encode(), parameters or None)

    def _add_event(self, job_id: int, node_id: str, event_type: str, dataset: str | None) -> None:
        detail: dict[str, Any] | None = None
        if dataset is not None:
            namespace, _, name = dataset.partition("/")
            detail = {"kind": "materialize-raw", "dataset_namespace": namespace, "dataset_name": name}
        self._session.execute(
            "INSERT INTO job_events (job_id, node_id, event_type, detail) VALUES (%s, %s, %s, %s)",
            [job_id, node_id, event_type, None if detail is None else json.dumps(detail)],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()
