"""The Admin API's endpoints as methods. Each answer is checked before a command sees it."""

import re
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import quote

from amp_workers.ctl.connection import Connection
from amp_workers.ctl.errors import AmpsOwnApi, ApiError
from amp_workers.ctl.fields import info_of

MOST_A_PAGE = 10_000
"""The API's highest `limit`. Without a limit it returns all workers in one answer."""

Worker = dict[str, Any]
"""One worker as the API returns it. Only `node_id` and `heartbeat_at` are there in every case."""

_NEEDED_TEXTS = ("node_id", "heartbeat_at")
_TEXTS = ("state", "created_at", "registered_at")
_INFO_TEXTS = ("version", "commit_sha", "commit_timestamp", "build_date")
_NULLABLE_TEXTS = ("stopped_at", "failure", "progress", "progress_at")
_NULLABLE_NUMBERS = ("exit_code", "jobs")


class AdminApi:
    """One Admin API: this project's, or Amp's own, which has fewer fields and endpoints."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.url = connection.url

    def workers(
        self,
        states: Collection[str] = (),
        version: str | None = None,
        limit: int | None = None,
        after: str | None = None,
        *,
        node_ids: Collection[str] = (),
        need_states: bool = False,
    ) -> dict[str, Any]:
        """Return `{"workers": [worker, …]}`, ordered by node id.

        states, version, node_ids: only workers of these; the latter two are globs; none are all. limit: at most so
        many; where there are more, the answer has "next", the last node id in it. after: only node ids that come after
        this one. need_states: whether workers without a state are of no use.

        Raises:
            AmpsOwnApi: states or a version are needed, and the answer has none.
        """
        wanted = {"state": ",".join(states), "node_id": ",".join(node_ids), "version": version}
        has_node_id, has_version = _matcher(node_ids), _matcher([] if version is None else [version])
        found: list[Worker] = []
        while True:
            size = None if limit is None else min(limit - len(found), MOST_A_PAGE)
            query = {name: value for name, value in (wanted | {"limit": size, "after": after}).items() if value}
            parameters = "&".join(f"{name}={quote(str(value), safe=',*?')}" for name, value in query.items())
            path = f"/workers?{parameters}" if parameters else "/workers"
            page = self._connection.request("GET", path)
            workers, last = page.get("workers"), page.pop("next", None)
            if not isinstance(workers, list) or not all(_is_worker(each) for each in workers):
                raise self._no_admin_api(path)
            if any(_is_amps_own(each) for each in workers):
                if states or version is not None or need_states:
                    raise AmpsOwnApi(self.url)
                workers = sorted(map(_with_our_timestamps, workers), key=lambda each: str(each["node_id"]))
            # Filtered here as well: an API that does not have a parameter ignores it.
            found += [
                each
                for each in workers
                if (not states or each["state"] in states)
                and has_node_id(each["node_id"])
                and has_version(info_of(each, "version"))
                and (after is None or each["node_id"] > after)
            ]
            if limit is not None and (len(found) > limit or (len(found) == limit and last is not None)):
                return page | {"workers": found[:limit], "next": found[limit - 1]["node_id"]}
            if last is None:
                return page | {"workers": found}
            if not isinstance(last, str) or last <= (after or ""):  # it would never end
                raise self._no_admin_api(path)
            after = last

    def worker(self, node_id: str, *, need_state: bool = False) -> Worker:
        """Return one worker.

        Raises:
            AmpsOwnApi: its state is needed, and the answer has none.
        """
        path = f"/workers/{quote(node_id, safe='')}"
        answer = self._connection.request("GET", path)
        if not _is_worker(answer):
            raise self._no_admin_api(path)
        if not _is_amps_own(answer):
            return answer
        if need_state:
            raise AmpsOwnApi(self.url)
        return _with_our_timestamps(answer)

    def jobs(self, node_id: str) -> dict[str, Any]:
        """Return the unfinished jobs of one worker, as `{"jobs": [...]}`; null where they are unknown.

        Raises:
            AmpsOwnApi: Amp's own API has no such endpoint.
        """
        path = f"/workers/{quote(node_id, safe='')}/jobs"
        answer = self._get_ours(path)
        jobs = answer.get("jobs", ())
        if jobs is not None and not (isinstance(jobs, list) and all(map(_is_job, jobs))):
            raise self._no_admin_api(path)
        return answer

    def forget(self, node_id: str) -> None:
        """Delete one worker that is not alive from the metadata DB."""
        self._connection.request("DELETE", f"/workers/{quote(node_id, safe='')}")

    def fleet(self) -> dict[str, Any]:
        """Return the counts of the whole fleet.

        Raises:
            AmpsOwnApi: Amp's own API has none.
        """
        answer = self._get_ours("/fleet")
        if not _is_fleet(answer):
            raise self._no_admin_api("/fleet")
        return answer

    def version(self) -> str:
        """Return the version of the API.

        Raises:
            AmpsOwnApi: Amp's own API does not say its version.
        """
        answer = self._get_ours("/openapi.json")
        info = answer.get("info")
        if not isinstance(info, dict) or not isinstance(info.get("version"), str):
            raise self._no_admin_api("/openapi.json")
        return str(info["version"])

    def _get_ours(self, path: str) -> dict[str, Any]:
        """Return what an endpoint answers that Amp's own API does not have."""
        try:
            return self._connection.request("GET", path)
        except ApiError as error:
            # This project's API answers 404 as JSON.
            if error.status == 404 and error.code is None and self._has_workers():
                raise AmpsOwnApi(self.url) from error
            raise

    def _has_workers(self) -> bool:
        try:
            return isinstance(self._connection.request("GET", "/workers").get("workers"), list)
        except ApiError:
            return False

    def _no_admin_api(self, path: str) -> ApiError:
        cause = "that is no answer of an Admin API"
        return ApiError(f"{self.url}{path}: {cause}", cause=cause, url=self.url)


def _matcher(globs: Collection[str]) -> Callable[[str], object]:
    """Return what matches a text against globs, where `*` is any text and `?` one character; none match all."""
    if not globs:
        return bool
    patterns = (re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".") for glob in globs)
    return re.compile("|".join(patterns), re.DOTALL).fullmatch


def _is_worker(answer: Any) -> bool:
    if not isinstance(answer, dict) or not isinstance(info := answer.get("info", {}), dict):
        return False
    age = answer.get("heartbeat_age_seconds", 0.0)
    return (
        isinstance(age, int | float)
        and abs(age) < 1e12
        and all(isinstance(answer.get(name), str) for name in _NEEDED_TEXTS)
        and all(isinstance(answer.get(name, ""), str) for name in _TEXTS)
        and all(isinstance(info.get(name, ""), str) for name in _INFO_TEXTS)
        and all(isinstance(answer.get(name), str | None) for name in _NULLABLE_TEXTS)
        and all(isinstance(answer.get(name), int | None) for name in _NULLABLE_NUMBERS)
    )


def _is_job(job: Any) -> bool:
    return isinstance(job, dict) and {"id", "status", "updated_at", "dataset"} <= job.keys()


def _is_fleet(answer: dict[str, Any]) -> bool:
    age = answer.get("oldest_heartbeat_age_seconds")
    thresholds = answer.get("thresholds")
    return (
        all(_has_numbers(answer.get(name), int) for name in ("workers", "versions"))
        and (thresholds is None or _has_numbers(thresholds, int | float))
        and isinstance(age, int | float | None)
        and (
            answer.get("jobs") is None
            or (
                isinstance(answer["jobs"], dict)
                and all(_has_numbers(answer["jobs"].get(name), int) for name in ("status", "stranded"))
            )
        )
    )


def _has_numbers(counts: Any, kind: Any) -> bool:
    return isinstance(counts, dict) and all(isinstance(each, kind) and abs(each) < 1e12 for each in counts.values())


def _is_amps_own(worker: Worker) -> bool:
    return "state" not in worker


def _with_our_timestamps(worker: Worker) -> Worker:
    """Amp's own API writes fractions of a second and `+00:00`, which jq's fromdateiso8601 refuses."""
    from datetime import UTC, datetime

    ours = dict(worker)
    for name in ("created_at", "registered_at", "heartbeat_at"):
        try:
            moment = datetime.fromisoformat(ours[name])
        except (KeyError, ValueError):
            continue
        if moment.tzinfo is not None:
            ours[name] = f"{moment.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%S')}Z"
    return ours
