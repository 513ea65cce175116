"""Query parameters. An unknown parameter is an error: a filter with a typing error must not select every worker."""

import re
from collections.abc import Mapping, Sequence

from werkzeug.datastructures import MultiDict

from amp_workers.errors import AmpError
from amp_workers.metadata_db import ORDERS, STATES, Order, Selection, State

MAX_LIMIT = 10_000

MAX_GLOBS = 100

_LIMIT = re.compile(r"[1-9][0-9]{0,4}")


class InvalidParameter(AmpError):
    """An unknown parameter or an invalid value. The message names it, and what is allowed."""


def no_parameters(given: MultiDict[str, str]) -> None:
    """Refuse all parameters: `DELETE …?dry_run=1` must not delete."""
    check_names(given, ())


def selection(given: MultiDict[str, str]) -> Selection:
    """Return the selection that the parameters of `GET /workers` describe.

    Raises:
        InvalidParameter: for the first invalid parameter.
    """
    check_names(given, ("state", "node_id", "version", "sort", "limit", "after"))
    values = given.to_dict()
    order = _order(values)
    after_state, after = _after(values, order)
    return Selection(
        states=states_of(values),
        node_ids=globs_of(values, "node_id"),
        version=text_of(values, "version"),
        order=order,
        limit=limit_of(values),
        after=after,
        after_state=after_state,
    )


def check_names(given: MultiDict[str, str], allowed: Sequence[str]) -> None:
    """Raise InvalidParameter for a parameter that is not allowed, or given twice."""
    for name, values in given.lists():
        if name not in allowed:
            known = f"allowed are {', '.join(allowed)}" if allowed else "none is allowed here"
            raise InvalidParameter(f"unknown parameter {shown(name)}: {known}")
        if len(values) > 1:
            raise InvalidParameter(f"parameter {name} is given {len(values)} times; it is allowed once")


def states_of(values: Mapping[str, str]) -> tuple[State, ...]:
    """Return the states of `state`; none where it is not given."""
    if "state" not in values:
        return ()
    names = values["state"].split(",")
    for name in names:
        if name not in STATES:
            raise InvalidParameter(
                f"parameter state: {shown(name)} is not a state; allowed are {', '.join(STATES)}, separated by commas"
            )
    return tuple(State(name) for name in names)


def _order(values: Mapping[str, str]) -> Order:
    name = values.get("sort", Order.NODE_ID)
    if name not in ORDERS:
        raise InvalidParameter(f"parameter sort: {shown(name)} is invalid; allowed are {', '.join(ORDERS)}")
    return Order(name)


def _after(values: Mapping[str, str], order: Order) -> tuple[State | None, str | None]:
    """Return the state and the node id of the last worker of the page before."""
    after = text_of(values, "after")
    if after is None or order is Order.NODE_ID:
        return None, after
    if order is Order.HEARTBEAT:
        raise InvalidParameter(
            "parameter after: not allowed with sort=heartbeat, an order that changes between two pages; raise limit"
        )
    state, _, node_id = after.partition(":")
    if state not in STATES or not node_id:
        raise InvalidParameter(
            f"parameter after: {shown(after)} is invalid with sort=state; expected <state>:<node_id>, such as the "
            "`next` of the page before"
        )
    return State(state), node_id


def globs_of(values: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return the globs of a parameter; none where it is not given."""
    text = text_of(values, name)
    globs = () if text is None else tuple(text.split(","))
    if len(globs) > MAX_GLOBS or not all(globs):
        raise InvalidParameter(
            f"parameter {name}: {shown(values[name])} is invalid; expected 1 to {MAX_GLOBS} globs, separated by commas"
        )
    return globs


def limit_of(values: Mapping[str, str]) -> int | None:
    """Return `limit`, from 1 to MAX_LIMIT; None where it is not given."""
    if "limit" not in values:
        return None
    if not _LIMIT.fullmatch(values["limit"]) or int(values["limit"]) > MAX_LIMIT:
        raise InvalidParameter(
            f"parameter limit: {shown(values['limit'])} is invalid; expected a whole number from 1 to {MAX_LIMIT}"
        )
    return int(values["limit"])


def text_of(values: Mapping[str, str], name: str) -> str | None:
    """Return a text that is not empty. PostgreSQL cannot store NUL."""
    if name not in values:
        return None
    if not values[name] or "\0" in values[name]:
        raise InvalidParameter(f"parameter {name}: {shown(values[name])} is invalid; expected text without NUL")
    return values[name]


def shown(value: str) -> str:
    """Return a value in one short line, for an error message."""
    return repr(value if len(value) <= 40 else f"{value[:40]}…")
