"""`GET /workers`: parameters, pages, ETags, gzip."""

import gzip
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from amp_workers.metadata_db import MetadataDbUrl, Thresholds
from amp_workers.metadata_db.embedded import EmbeddedPostgres
from amp_workers.metadata_db.migrate import upgrade
from tests.admin.conftest import Api
from tests.admin.test_api import error
from tests.conftest import Insert, fresh_database

Sql = Callable[..., list[Any]]


@pytest.fixture
def api(make_api: Api, database: str) -> FlaskClient:
    """A client of an API with high thresholds, because the machine may be busy."""
    return make_api(database, thresholds=Thresholds(stale_after=20, lost_after=200))


@pytest.fixture
def fleet(insert_worker: Insert) -> None:
    """One worker per state, named after the state."""
    insert_worker("active", 0, '{"version": "v2"}')
    insert_worker("Stale", 30, '{"version": "v1"}')
    insert_worker("lost", 300, '{"version": "v1"}')
    insert_worker("stopped", 300, '{"version": "é,v3", "stopped_at": "2999-01-01T00:00:00Z"}')
    insert_worker("forgotten", 1e6)


def ids(api: FlaskClient, query: str) -> list[str]:
    answer = api.get(f"/workers{query}")
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return [worker["node_id"] for worker in answer.json["workers"]]


SELECTIONS = {
    "": ["Stale", "active", "forgotten", "lost", "stopped"],
    "?state=lost": ["lost"],
    "?state=stale,lost": ["Stale", "lost"],
    "?state=lost,lost": ["lost"],
    "?state=active,stale,lost,stopped,forgotten": ["Stale", "active", "forgotten", "lost", "stopped"],
    "?version=v1": ["Stale", "lost"],
    "?version=V1": [],
    "?version=unknown": ["forgotten"],
    "?version=%C3%A9,v3": ["stopped"],
    "?version=v1%27%20OR%20true": [],
    "?version=v1&state=lost,active": ["lost"],
    "?after=active": ["forgotten", "lost", "stopped"],
    "?after=b": ["forgotten", "lost", "stopped"],
    "?after=z": [],
    "?after=1%27": ["Stale", "active", "forgotten", "lost", "stopped"],
    "?limit=10000": ["Stale", "active", "forgotten", "lost", "stopped"],
    "?limit=2": ["Stale", "active"],
    "?limit=2&after=active&version=unknown": ["forgotten"],
    "?node_id=lost": ["lost"],
    "?node_id=*t*": ["Stale", "active", "forgotten", "lost", "stopped"],
    "?node_id=st*": ["stopped"],
    "?node_id=?t*": ["Stale", "stopped"],
    "?node_id=l?st,act*": ["active", "lost"],
    "?node_id=*,lost": ["Stale", "active", "forgotten", "lost", "stopped"],
    "?node_id=l%25": [],
    "?node_id=l_st": [],
    "?node_id=l%5C*": [],
    "?node_id=*%5C": [],
    "?node_id=l[o]st": [],
    "?node_id=%27%20OR%20true": [],
    "?node_id=los": [],
    "?version=v?": ["Stale", "active", "lost"],
    "?version=v*&state=lost,active": ["active", "lost"],
    "?version=?,v3": ["stopped"],
    "?version=unk*": ["forgotten"],
    "?sort=node_id": ["Stale", "active", "forgotten", "lost", "stopped"],
    "?sort=state": ["lost", "Stale", "active", "stopped", "forgotten"],
    "?sort=state&after=stale:Stale": ["active", "stopped", "forgotten"],
    "?sort=state&after=stale:R": ["Stale", "active", "stopped", "forgotten"],
    "?sort=state&after=forgotten:z": [],
    "?sort=state&limit=2&node_id=*t*&after=lost:lost": ["Stale", "active"],
    "?sort=heartbeat": ["forgotten", "lost", "stopped", "Stale", "active"],
    "?sort=heartbeat&limit=2&state=stale,lost": ["lost", "Stale"],
}


@pytest.mark.slow
@pytest.mark.usefixtures("fleet")
def test_parameters_select(api: FlaskClient) -> None:
    assert {query: ids(api, query) for query in SELECTIONS} == SELECTIONS


@pytest.mark.parametrize(
    ("query", "named", "allowed"),
    [
        ("?stat=lost", "'stat'", "state, node_id, version, sort, limit, after"),
        ("?sort=", "sort", "node_id, state, heartbeat"),
        ("?sort=age", "'age'", "node_id, state, heartbeat"),
        ("?sort=heartbeat&after=w", "after", "raise limit"),
        ("?sort=state&after=w", "after", "<state>:<node_id>"),
        ("?sort=state&after=lots:w", "after", "<state>:<node_id>"),
        ("?sort=state&after=lost:", "after", "<state>:<node_id>"),
        ("?node_id=", "node_id", "text"),
        ("?node_id=a,", "node_id", "1 to 100 globs"),
        (f"?node_id={'a,' * 100}a", "node_id", "1 to 100 globs"),
        ("?node_id=a%00*", "node_id", "without NUL"),
        ("?state=", "state", "failed, lost, stale, stuck, active, stopped, forgotten"),
        ("?state=Lost", "'Lost'", "failed, lost"),
        ("?state=lost,", "state", "failed, lost"),
        ("?state=lost%20", "'lost '", "failed, lost"),
        ("?state=lost&state=stale", "state", "once"),
        ("?limit=", "limit", "from 1 to 10000"),
        ("?limit=0", "limit", "from 1 to 10000"),
        ("?limit=-1", "limit", "from 1 to 10000"),
        ("?limit=10001", "limit", "from 1 to 10000"),
        ("?limit=1.0", "limit", "from 1 to 10000"),
        ("?limit=%D9%A3", "limit", "from 1 to 10000"),
        (f"?limit={'9' * 5000}", "limit", "from 1 to 10000"),
        ("?after=", "after", "text"),
        ("?after=a%00b", "after", "without NUL"),
        ("?version=", "version", "text"),
        ("?version=%00", "version", "without NUL"),
        ("?%0A=1", "'\\n'", "state, node_id, version"),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_allowed(
    api_without_database: FlaskClient, query: str, named: str, allowed: str
) -> None:
    response = api_without_database.get(f"/workers{query}")
    assert error(response) == (400, "INVALID_PARAMETER")
    assert response.json is not None
    message = response.json["error_message"]
    assert named in message
    assert allowed in message
    assert len(message) < 250


def test_one_worker_has_no_parameters(api_without_database: FlaskClient) -> None:
    response = api_without_database.get("/workers/w?state=lost")
    assert error(response) == (400, "INVALID_PARAMETER")


def test_a_character_that_the_database_cannot_have_is_refused(make_api: Api, postgres: EmbeddedPostgres) -> None:
    with fresh_database(postgres, "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'") as url:
        upgrade(MetadataDbUrl.parse(url))
        api = make_api(url)
        assert ids(api, "?version=%C3%A9&after=%C3%A9") == []
        for query in ("version=%E6%BC%A2", "after=%F0%9F%98%80"):
            assert error(api.get(f"/workers?{query}")) == (400, "INVALID_PARAMETER")


def test_a_database_that_knows_no_encoding_is_read(make_api: Api, postgres: EmbeddedPostgres) -> None:
    """initdb without a locale creates a database with the encoding SQL_ASCII."""
    with fresh_database(postgres, "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'") as url:
        upgrade(MetadataDbUrl.parse(url))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO workers VALUES (DEFAULT, 'w', now(), '{\"version\": \"v\"}', now(), now())")
        api = make_api(url)
        assert ids(api, "?version=v") == ["w"]
        assert ids(api, "?version=%E6%BC%A2") == []
        assert api.get("/workers/w").status_code == 200


def pages(
    api: FlaskClient, limit: int, between: Callable[[], None] = lambda: None, order: str = "node_id"
) -> Iterator[list[str]]:
    first = query = f"?sort={order}&limit={limit}"
    while True:
        answer = api.get(f"/workers{query}").json
        assert answer is not None
        yield [worker["node_id"] for worker in answer["workers"]]
        if "next" not in answer:
            return
        last = answer["workers"][-1]
        assert answer["next"] == (f"{last['state']}:{last['node_id']}" if order == "state" else last["node_id"])
        query = f"{first}&after={answer['next']}"
        between()


def test_pages(api: FlaskClient, insert_worker: Insert) -> None:
    for node_id in "fadbec":
        insert_worker(node_id)
    for limit, sizes in {1: [1] * 6, 4: [4, 2], 3: [3, 3], 6: [6], 7: [6]}.items():
        found = list(pages(api, limit))
        assert [len(page) for page in found] == sizes
        assert list(chain(*found)) == sorted("abcdef")


def test_pages_by_state_have_each_worker_that_keeps_its_state_once(
    api: FlaskClient, insert_worker: Insert, sql: Sql
) -> None:
    ages = {"a": 0.0, "s": 30.0, "l": 300.0, "f": 1e6}
    for number in range(24):
        name = "asfl"[number % 4]
        insert_worker(f"{name}{number:02}", ages[name])
    changes = iter(range(100))

    def change() -> None:
        number = next(changes)
        insert_worker(f"new-{number}", 300.0)  # before each page that follows
        sql("UPDATE workers SET heartbeat_at = now() - interval '31 s' WHERE node_id = %s", f"a{4 * (5 - number):02}")

    found = list(chain(*pages(api, 5, change, "state")))
    kept = [node_id for node_id in found if node_id[0] in "slf"]
    assert kept == [f"{name}{number:02}" for name in "lsf" for number in range("asfl".index(name), 24, 4)]


def test_an_order_by_heartbeat_is_one_page(api: FlaskClient, insert_worker: Insert) -> None:
    for node_id, age in {"a": 40, "b": 50, "c": 30}.items():
        insert_worker(node_id, age)
    answer = api.get("/workers?sort=heartbeat&limit=2").json
    assert answer is not None
    assert ([worker["node_id"] for worker in answer["workers"]], "next" in answer) == (["b", "a"], False)


def test_pages_are_stable_while_workers_register_and_disappear(
    api: FlaskClient, insert_worker: Insert, sql: Sql
) -> None:
    """A worker that exists during the whole read is on exactly one page."""
    for number in range(20):
        insert_worker(f"w{number:02}")
    steps = iter(range(100))

    def shift() -> None:
        step = next(steps)
        insert_worker(f"a{step}")  # before each page that follows
        sql("DELETE FROM workers WHERE node_id = %s", f"w{step:02}")  # on a page that was already read
        sql("UPDATE workers SET heartbeat_at = now()")

    seen = list(chain(*pages(api, 3, shift)))
    assert seen == [f"w{number:02}" for number in range(20)]


def test_a_node_id_that_breaks_the_rules_does_not_break_the_pages(api: FlaskClient, insert_worker: Insert) -> None:
    """Any program with write access to the table can insert such a node id."""
    for node_id in ("1", "a&b=c", "ü", "x y"):
        insert_worker(node_id)
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 1}
    while True:
        answer = api.get("/workers", query_string=query).json
        assert answer is not None
        seen += [worker["node_id"] for worker in answer["workers"]]
        if "next" not in answer:
            break
        query["after"] = answer["next"]
    assert seen == sorted(("1", "a&b=c", "ü", "x y"), key=str.encode)


class Poller:
    """A client that repeats its request with the ETag."""

    def __init__(self, api: FlaskClient, path: str = "/workers") -> None:
        self._api, self._path = api, path
        self._tag = ""
        self.poll()

    def poll(self) -> int:
        response = self._api.get(self._path, headers={"If-None-Match": self._tag})
        if response.status_code == 304:
            assert response.data == b""
            assert response.headers["ETag"] == self._tag
        self._tag = response.headers["ETag"]
        return response.status_code


@pytest.mark.usefixtures("fleet")
def test_an_etag_ignores_heartbeats_and_ages(api: FlaskClient, sql: Sql) -> None:
    poller = Poller(api)
    assert poller.poll() == 304
    sql("UPDATE workers SET heartbeat_at = heartbeat_at - interval '1 s' WHERE node_id = 'active'")
    assert poller.poll() == 304


CHANGES = [
    "UPDATE workers SET heartbeat_at = now() - interval '30 s' WHERE node_id = 'active'",
    "UPDATE workers SET heartbeat_at = now() - interval '90 s' WHERE node_id = 'Stale'",
    "UPDATE workers SET heartbeat_at = heartbeat_at + interval '1 s' WHERE node_id = 'lost'",
    "UPDATE workers SET heartbeat_at = now() + interval '10 min' WHERE node_id = 'lost'",
    "UPDATE workers SET heartbeat_at = now() - interval '9 days' WHERE node_id = 'lost'",
    "UPDATE workers SET info = info || '{\"stopped_at\": null}' WHERE node_id = 'active'",
    "UPDATE workers SET info = info || '{\"version\": \"v9\"}' WHERE node_id = 'active'",
    "UPDATE workers SET registered_at = now() WHERE node_id = 'active'",
    "UPDATE workers SET created_at = now() WHERE node_id = 'active'",
    "DELETE FROM workers WHERE node_id = 'active'",
    "INSERT INTO workers VALUES (DEFAULT, 'new', now(), '{}', now(), now())",
]


@pytest.mark.usefixtures("fleet")
def test_an_etag_changes_with_everything_else(api: FlaskClient, sql: Sql) -> None:
    poller = Poller(api)
    for change in CHANGES:
        assert poller.poll() == 304
        sql(change)
        assert poller.poll() == 200, change


@pytest.mark.slow
def test_a_304_never_hides_a_state(make_api: Api, database: str, insert_worker: Insert, sql: Sql) -> None:
    """The ETags of workers that stop sending heartbeats one after the other."""
    for number in range(20):
        insert_worker(f"w{number}", age=number * 0.05)
    api = make_api(database, thresholds=Thresholds(stale_after=0.5, lost_after=1.0, forget_after=0.5))

    def states() -> tuple[str | None, list[str] | None]:
        response = api.get("/workers", headers={"If-None-Match": tag})
        if response.status_code == 304:
            return response.headers["ETag"], None
        assert response.json is not None
        return response.headers["ETag"], [worker["state"] for worker in response.json["workers"]]

    known: dict[str, list[str]] = {}
    tag: str | None = "none"
    last: list[str] = []
    # If too few changes were seen, the workers stop again: on a busy machine several states may change in one step.
    while len(set(map(tuple, known.values()))) <= 3 or set(last) != {"forgotten"}:
        if set(last) == {"forgotten"}:
            sql("UPDATE workers SET heartbeat_at = now() - substr(node_id, 2)::int * interval '0.05 s'")
        tag, reported = states()
        assert tag is not None
        if reported is None:
            assert known[tag] == last
        else:
            assert known.setdefault(tag, reported) == reported
            last = reported


@pytest.mark.usefixtures("fleet")
def test_an_etag_belongs_to_the_requested_page(api: FlaskClient) -> None:
    paths = ["/workers", "/workers?limit=4", "/workers?limit=4&after=Stale", "/workers?state=lost"]
    tags = [api.get(path).headers["ETag"] for path in paths]
    assert len(set(tags)) == len(paths)
    # The same rows, once with a following page and once without.
    assert api.get("/workers?limit=1").headers["ETag"] != api.get("/workers?state=stale").headers["ETag"]


def test_the_forms_of_if_none_match(api: FlaskClient) -> None:
    tag = api.get("/workers").headers["ETag"]
    for sent in (tag, f'"x", {tag}', "*", tag.removeprefix("W/")):
        assert api.get("/workers", headers={"If-None-Match": sent}).status_code == 304
        assert api.head("/workers", headers={"If-None-Match": sent}).status_code == 304
    for sent in ('"x"', tag[:-2], "", "W/", '"'):
        assert api.get("/workers", headers={"If-None-Match": sent}).status_code == 200


@pytest.mark.usefixtures("fleet")
def test_a_large_response_is_compressed_for_a_client_that_accepts_gzip(api: FlaskClient) -> None:
    for path in ("/workers", "/openapi.json", "/docs", "/metrics"):
        packed = api.get(path, headers={"Accept-Encoding": "br, gzip"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert len(gzip.decompress(packed.data)) > max(999, len(packed.data))
        for accepted in ({}, {"Accept-Encoding": "gzip;q=0"}, {"Accept-Encoding": "br"}):
            plain = api.get(path, headers=accepted)
            assert "Content-Encoding" not in plain.headers
            assert "Accept-Encoding" in plain.headers["Vary"]


def test_a_small_response_is_not_compressed(api: FlaskClient) -> None:
    assert "Content-Encoding" not in api.get("/workers", headers={"Accept-Encoding": "gzip"}).headers


@pytest.mark.usefixtures("fleet")
def test_head_is_get_without_the_body(api: FlaskClient) -> None:
    for path in ("/workers", "/workers/lost", "/-/healthy", "/-/ready", "/openapi.json", "/docs"):
        got, head = api.get(path), api.head(path)
        assert (head.status_code, head.data) == (got.status_code, b"")
        # The number of digits of an age varies.
        own = {"Content-Length"} if path.startswith("/workers") else set()
        assert {k: v for k, v in head.headers if k not in own} == {k: v for k, v in got.headers if k not in own}
        assert abs(int(head.headers["Content-Length"]) - int(got.headers["Content-Length"])) < 100


def test_no_cache_keeps_an_answer_and_no_browser_guesses_its_type(api: FlaskClient) -> None:
    for path in ("/workers", "/workers/x", "/-/ready", "/docs", "/nothing"):
        headers = api.get(path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
