"""The Admin API's endpoints as methods. Each response is validated before a command uses it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from amp_workers.ctl.connection import NOT_AN_ADMIN_API, Connection
from amp_workers.ctl.errors import AmpsOwnApi, ApiError
from amp_workers.ctl.fields import STATES, info_of, is_unhealthy, severity_of, state_of
from amp_workers.ctl.globs import glob_matcher

MOST_A_PAGE = 10_000
"""The API's highest `limit`. Without a limit it returns all workers in one answer."""

Worker = dict[str, Any]
"""One worker as the API returns it. Only `node_id` and `heartbeat_at` are always present."""

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
        order: str = "node_id",
        problems: bool = False,
        need_states: bool = False,
    ) -> dict[str, Any]:
        """Return `{"workers": [worker, …]}` in one of the API's orders: `node_id`, `state` or `heartbeat`.

        states, version, node_ids: only workers of these; the latter two are globs; none are all. problems: only
        unhealthy workers; the order is `state`. limit: at most this many; where there are more, the answer has "next".
        The order `heartbeat` has no "next": one worker more than the limit shows that there are more. after: only node
        ids that come after this one. need_states: whether workers without a state are useless.

        Raises:
            AmpsOwnApi: states or versions are needed, and the response has none.
        """
        order = "state" if problems else order
        wanted = {"state": ",".join(states), "node_id": ",".join(node_ids), "version": version}
        wanted["sort"] = None if order == "node_id" else order
        has_node_id, has_version = glob_matcher(node_ids), glob_matcher([] if version is None else [version])
        # The healthy ones follow: only one more unhealthy worker shows that there are more than the limit.
        enough = None if limit is None else limit + 1 if problems else limit
        found: dict[str, Worker] = {}
        token, tokens = after, {after}
        while True:
            path = _workers_path(wanted | {"limit": _page_size(order, enough, len(found)), "after": token})
            page = self._connection.request("GET", path)
            workers, token = page.get("workers"), page.pop("next", None)
            if not isinstance(workers, list) or not all(_is_worker(each) for each in workers):
                raise self._unexpected(path)
            if any(_is_amps_own(each) for each in workers):
                if states or version is not None or problems or need_states:
                    raise AmpsOwnApi(self.url)
                workers = sorted(map(_with_our_timestamps, workers), key=lambda each: str(each["node_id"]))
            elif token is not None and order == "state" and not _is_worst_first(workers):
                raise self._unexpected(path)
            # Filtered here as well: Amp's own API ignores the parameters. By node id: a worker whose state changes
            # between two pages can be on both.
            found |= {
                each["node_id"]: each
                for each in workers
                if (not states or each["state"] in states)
                and (not problems or is_unhealthy(each["state"]))
                and has_node_id(each["node_id"])
                and has_version(info_of(each, "version"))
                and (after is None or each["node_id"] > after)
            }
            if problems and workers and not is_unhealthy(workers[-1]["state"]):
                token = None  # the healthy ones follow
            chosen = list(found.values())
            if order == "heartbeat" or (token is None and (limit is None or len(chosen) <= limit)):
                return page | {"workers": chosen}
            if limit is not None and enough is not None and len(chosen) >= enough:
                last = chosen[limit - 1]
                next_after = last["node_id"] if order == "node_id" else f"{state_of(last)}:{last['node_id']}"
                return page | {"workers": chosen[:limit], "next": next_after}
            if not isinstance(token, str) or token in tokens:  # or the loop would not end
                raise self._unexpected(path)
            tokens.add(token)

    def worker(self, node_id: str, *, need_state: bool = False) -> Worker:
        """Return one worker.

        Raises:
            AmpsOwnApi: its state is needed, and the response has none.
        """
        path = f"/workers/{quote(node_id, safe='')}"
        answer = self._connection.request("GET", path)
        if not _is_worker(answer):
            raise self._unexpected(path)
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
            raise self._unexpected(path)
        return answer

    def forget(self, node_id: str) -> None:
        """Delete one worker that is not alive from the metadata DB."""
        self._connection.request("DELETE", f"/workers/{quote(node_id, safe='')}")

    def fleet(self) -> dict[str, Any]:
        """Return the counts of the whole fleet.

        Raises:
            AmpsOwnApi: Amp's own API has no such endpoint.
        """
        answer = self._get_ours("/fleet")
        if not _is_fleet(answer):
            raise self._unexpected("/fleet")
        return answer

    def version(self) -> str:
        """Return the version of the API.

        Raises:
            AmpsOwnApi: Amp's own API does not have its version.
        """
        answer = self._get_ours("/openapi.json")
        info = answer.get("info")
        if not isinstance(info, dict) or not isinstance(info.get("version"), str):
            raise self._unexpected("/openapi.json")
        return str(info["version"])

    def _get_ours(self, path: str) -> dict[str, Any]:
        """Return the response of an endpoint that Amp's own API does not have."""
        try:
            return self._connection.request("GET", path)
        except ApiError as error:
            # This project's API returns 404 as JSON.
            if error.status == 404 and error.code is None and self._has_workers():
                raise AmpsOwnApi(self.url) from error
            raise

    def _has_workers(self) -> bool:
        try:
            return isinstance(self._connection.request("GET", "/workers").get("workers"), list)
        except ApiError:
            return False

    def _unexpected(self, path: str) -> ApiError:
        return ApiError(f"{self.url}{path}: {NOT_AN_ADMIN_API}", cause=NOT_AN_ADMIN_API, url=self.url)


def _workers_path(parameters: Mapping[str, Any]) -> str:
    query = "&".join(f"{name}={quote(str(value), safe=',*?:')}" for name, value in parameters.items() if value)
    return f"/workers?{query}" if query else "/workers"


def _page_size(order: str, limit: int | None, found: int) -> int | None:
    """Return the `limit` of the next request; None for no limit."""
    if limit is None:
        return None
    if order == "heartbeat":
        return limit + 1 if limit < MOST_A_PAGE else None
    return min(limit - found, MOST_A_PAGE)


def _is_worst_first(workers: Sequence[Worker]) -> bool:
    severities = [severity_of(each["state"]) for each in workers if each["state"] in STATES]
    return severities == sorted(severities)


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
