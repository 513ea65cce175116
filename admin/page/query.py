"""What the URL of the fleet page asks for, and the URLs of its links. All of it is in the URL: a link can be shared."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

from werkzeug.datastructures import MultiDict

from amp_workers.admin.parameters import InvalidParameter, check_names, globs_of, shown, states_of, text_of
from amp_workers.metadata_db import RUNNING, STATES, UNKNOWN, State, Worker, text_matcher

_PAGE = re.compile(r"[1-9][0-9]{0,5}")

_BY_SEVERITY = {state.value: number for number, state in enumerate(STATES)}


class Order(NamedTuple):
    """What the list can be sorted by."""

    key: Callable[[Worker], Any]
    """None for a worker that has no such value. It comes last in both directions."""

    is_descending: bool = False
    """Whether the largest value comes first, without the `-` that reverses the order."""


ORDERS = {
    "state": Order(lambda worker: _BY_SEVERITY[worker["state"]]),
    "node_id": Order(lambda worker: worker["node_id"]),
    "heartbeat": Order(lambda worker: abs(worker["heartbeat_age_seconds"]), is_descending=True),
    "version": Order(lambda worker: worker["info"]["version"] if worker["info"]["version"] != UNKNOWN else None),
    # The longest uptime is the earliest registration. Its text sorts as the time does.
    "uptime": Order(lambda worker: worker["registered_at"] if worker["state"] in RUNNING else None),
    "jobs": Order(lambda worker: worker["jobs"], is_descending=True),
    "status": Order(lambda worker: worker["failure"] or worker["progress"]),
}
"""By the value of `sort`. The first one is the default. Workers that are equal in it are ordered by node id."""

DEFAULT_SORT = next(iter(ORDERS))


@dataclass(frozen=True)
class Query:
    """The parameters of the page. `state`, `version` and `node_id` are those of `GET /workers`."""

    states: tuple[State, ...] = ()
    version: str | None = None
    node_ids: tuple[str, ...] = ()
    sort: str = DEFAULT_SORT
    is_reversed: bool = False
    page: int = 1

    @classmethod
    def parse(cls, given: MultiDict[str, str]) -> Self:
        """Return what the parameters ask for.

        Raises:
            InvalidParameter: of the first that is not valid.
        """
        check_names(given, ("state", "version", "node_id", "sort", "page"))
        values = given.to_dict()
        # A browser sends the field of an empty search, and a person types `a, b`.
        globs = [glob for glob in map(str.strip, values.pop("node_id", "").split(",")) if glob]
        if globs:
            values["node_id"] = ",".join(globs)
        sort = values.get("sort", DEFAULT_SORT)
        if sort.removeprefix("-") not in ORDERS:
            allowed = ", ".join(ORDERS)
            raise InvalidParameter(
                f"parameter sort: {shown(sort)} is not allowed; allowed are {allowed}, and each with - before it"
            )
        page = values.get("page", "1")
        if not _PAGE.fullmatch(page):
            raise InvalidParameter(f"parameter page: {shown(page)} is not allowed; a whole number from 1 is")
        return cls(
            states=tuple(dict.fromkeys(states_of(values))),
            version=text_of(values, "version"),
            node_ids=globs_of(values, "node_id"),
            sort=sort.removeprefix("-"),
            is_reversed=sort.startswith("-"),
            page=int(page),
        )

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters that differ from the default, as they are written in a URL; without the page."""
        written = {
            "state": ",".join(self.states),
            "version": self.version or "",
            "node_id": ",".join(self.node_ids),
            "sort": "" if self == replace(self, sort=DEFAULT_SORT, is_reversed=False) else self._sort,
        }
        return {name: value for name, value in written.items() if value}

    @property
    def _sort(self) -> str:
        return f"-{self.sort}" if self.is_reversed else self.sort

    def url(self, **changes: Any) -> str:
        """Return the relative URL of the page with other values. A change leads to the first page, unless it names one.

        Its path is `.`: a proxy may serve the page below a prefix.
        """
        changed = replace(self, **{"page": 1, **changes})
        parameters = changed.parameters | ({"page": str(changed.page)} if changed.page > 1 else {})
        return "." + (f"?{urlencode(parameters, safe=',*')}" if parameters else "")

    def select(self, workers: Sequence[Worker]) -> list[Worker]:
        """Return the workers that are asked for, in their order. workers: by node id."""
        found = list(workers)
        if self.states:
            found = [worker for worker in found if worker["state"] in self.states]
        if self.node_ids:
            is_wanted = text_matcher(self.node_ids)
            found = [worker for worker in found if is_wanted(worker["node_id"])]
        if self.version is not None:
            has_version = text_matcher([self.version])
            found = [worker for worker in found if has_version(worker["info"]["version"])]
        order = ORDERS[self.sort]
        keyed = [(order.key(worker), worker) for worker in found]
        valued = [each for each in keyed if each[0] is not None]
        others = [worker for key, worker in keyed if key is None]
        # A stable sort, also in reverse: workers that are equal stay in the order of their node ids.
        valued.sort(key=itemgetter(0), reverse=order.is_descending != self.is_reversed)
        return [worker for _, worker in valued] + others
