"""The fleet page `/`, as the server renders it."""

import gzip
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from amp_workers.metadata_db import STATES, Thresholds
from tests.admin.conftest import Api
from tests.admin.page.document import Element, counts, links, node_ids, parse, rows
from tests.admin.test_selection import SELECTIONS
from tests.conftest import Insert
from tests.metadata_db import amp
from tests.metadata_db.amp_jobs import Scheduler

pytestmark = pytest.mark.slow

Sql = Callable[..., list[Any]]

PATIENT = Thresholds(stale_after=20, lost_after=200)
"""Each state lasts longer than a test takes on a busy machine."""

STOPPED = '"stopped_at": "2999-01-01T00:00:00Z"'


@pytest.fixture
def api(make_api: Api, database: str) -> FlaskClient:
    return make_api(database, thresholds=PATIENT)


@pytest.fixture
def fleet(insert_worker: Insert) -> None:
    """A worker in each state, named after it."""
    insert_worker("active", 0, '{"version": "v2", "progress": "block 7"}')
    insert_worker("Stale", 30, '{"version": "v1"}')
    insert_worker("lost", 300, '{"version": "v1"}')
    insert_worker("stopped", 300, f'{{"version": "é,v3", {STOPPED}, "exit_code": 0}}')
    insert_worker("forgotten", 1e6)


@pytest.fixture
def every_state(fleet: None, insert_worker: Insert) -> None:
    insert_worker("failed", 300, f'{{"version": "v1", {STOPPED}, "failure": "killed by SIGKILL"}}')
    insert_worker("stuck", 0, '{"version": "v1", "watchdog_seconds": 60, "progress_at": "2020-01-01T00:00:00Z"}')


def get(api: FlaskClient, path: str = "/") -> Element:
    answer = api.get(path)
    assert answer.status_code == 200, answer.text
    return parse(answer.text)


def test_unhealthy_workers_come_first(api: FlaskClient, every_state: None) -> None:
    page = get(api)
    assert node_ids(page) == ["failed", "lost", "Stale", "stuck", "active", "stopped", "forgotten"]
    assert [row["state"] for row in rows(page)] == list(STATES)
    assert counts(page) == dict.fromkeys(STATES, "1")
    assert page.one("title").text == "4 unhealthy · Amp workers"


def test_a_row_shows_each_field_of_a_worker(api: FlaskClient, every_state: None) -> None:
    found = {row["node_id"]: row for row in rows(get(api))}
    assert found["failed"] | {"heartbeat": ""} == {
        "state": "failed",
        "node_id": "failed",
        "heartbeat": "",
        "version": "v1",
        "uptime": "-",
        "jobs": "-",
        "status": "killed by SIGKILL",
    }
    assert re.fullmatch(r"5m\d+s? ago|5m ago", found["lost"]["heartbeat"])
    assert found["active"]["uptime"].startswith("1d")
    assert found["active"]["status"] == "block 7"
    assert re.fullmatch(r"no progress for \d+d\d*h?", found["stuck"]["status"])
    assert found["stopped"]["status"] == "exit code 0"
    assert found["forgotten"]["version"] == "unknown"


@pytest.mark.parametrize(
    ("query", "expected"),
    [(query, expected) for query, expected in SELECTIONS.items() if not re.search("after|limit|sort", query)],
)
def test_the_filters_are_those_of_the_api(api: FlaskClient, fleet: None, query: str, expected: list[str]) -> None:
    assert sorted(node_ids(get(api, f"/{query}"))) == sorted(expected)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("state", ["lost", "Stale", "active", "stopped", "forgotten"]),
        ("-state", ["forgotten", "stopped", "active", "Stale", "lost"]),
        ("node_id", ["Stale", "active", "forgotten", "lost", "stopped"]),
        ("-node_id", ["stopped", "lost", "forgotten", "active", "Stale"]),
        ("heartbeat", ["forgotten", "lost", "stopped", "Stale", "active"]),
        ("-heartbeat", ["active", "Stale", "stopped", "lost", "forgotten"]),
        ("version", ["Stale", "lost", "active", "stopped", "forgotten"]),
        ("-uptime", ["Stale", "active", "forgotten", "lost", "stopped"]),
        ("status", ["active", "Stale", "forgotten", "lost", "stopped"]),
        ("-status", ["active", "Stale", "forgotten", "lost", "stopped"]),
    ],
)
def test_it_is_sorted_by_any_column(api: FlaskClient, fleet: None, sort: str, expected: list[str]) -> None:
    page = get(api, f"/?sort={sort}")
    found = node_ids(page)
    if "heartbeat" in sort:  # two have the same age, to the millisecond
        found, expected = ([each for each in ids if each != "stopped"] for ids in (found, expected))
    if "uptime" in sort:  # two have been running since the same day
        assert set(found[:2]) == {"Stale", "active"}
        found, expected = found[2:], expected[2:]
    assert found == expected
    (sorted_by,) = [each for each in page.find("th") if "aria-sort" in each.attributes]
    assert sorted_by.attributes["class"] == sort.removeprefix("-")


def test_a_heading_sorts_by_its_column_and_then_in_reverse(api: FlaskClient, fleet: None) -> None:
    page = get(api, "/?state=lost,stale")
    assert page.one("a", id="sort-node_id").attributes["href"] == ".?state=lost,stale&sort=node_id"
    page = get(api, "/?state=lost,stale&sort=node_id")
    assert page.one("a", id="sort-node_id").attributes["href"] == ".?state=lost,stale&sort=-node_id"
    page = get(api, "/?state=lost,stale&sort=-node_id")
    assert page.one("a", id="sort-node_id").attributes["href"] == ".?state=lost,stale&sort=node_id"
    assert page.one("a", id="sort-state").attributes["href"] == ".?state=lost,stale"


def test_each_filter_keeps_the_others_and_leads_to_the_first_page(api: FlaskClient, every_state: None) -> None:
    page = get(api, "/?version=v1&node_id=*&sort=node_id&page=2")
    assert page.one("a", id="state-lost").attributes["href"] == ".?state=lost&version=v1&node_id=*&sort=node_id"
    assert page.one("a", id="no-version").attributes["href"] == ".?node_id=*&sort=node_id"
    assert page.one("a", id="no-search").attributes["href"] == ".?version=v1&sort=node_id"
    hidden = {each.attributes["name"]: each.attributes["value"] for each in page.find("input", type="hidden")}
    assert hidden == {"version": "v1", "sort": "node_id"}
    assert page.one("input", id="search").attributes["value"] == "*"


def test_an_empty_search_is_no_filter(api: FlaskClient, fleet: None) -> None:
    for search in ("", ",", "%20"):
        assert len(node_ids(get(api, f"/?node_id={search}"))) == 5


def test_a_search_may_have_spaces_after_its_commas(api: FlaskClient, fleet: None) -> None:
    assert node_ids(get(api, "/?node_id=l*,%20,%20st*,")) == ["lost", "stopped"]


def test_a_search_that_finds_nothing_offers_the_one_that_contains_the_text(api: FlaskClient, fleet: None) -> None:
    page = get(api, "/?node_id=ost")
    assert "No worker matches the filters." in page.text
    assert ".?node_id=*ost*" in links(page)
    assert node_ids(get(api, "/?node_id=*ost*")) == ["lost"]


def test_a_page_has_at_most_200_workers(api: FlaskClient, sql: Sql) -> None:
    sql(
        "INSERT INTO workers (node_id, heartbeat_at, created_at, registered_at) SELECT 'w' || to_char(number, 'FM000'),"
        "now(), now(), now() FROM generate_series(1, 401) number"
    )
    first, second, third, beyond = (node_ids(get(api, f"/?page={number}")) for number in (1, 2, 3, 4))
    assert [len(first), len(second), len(third)] == [200, 200, 1]
    assert [*first, *second, *third] == [f"w{number:03}" for number in range(1, 402)]
    assert beyond == third
    page = get(api, "/?node_id=w*&page=2")
    assert "201 to 400 of 401" in page.one("h2", id="workers").text
    assert page.one("a", id="page-next").attributes["href"] == ".?node_id=w*&page=3"
    assert page.one("a", id="page-previous").attributes["href"] == ".?node_id=w*"


def test_versions_are_shares_of_the_workers_that_run(api: FlaskClient, every_state: None) -> None:
    shown = [item.text for item in get(api).one("ul", class_="versions").find("li")]
    assert shown == ["v1 67 % 2", "v2 33 % 1"]


def test_a_share_is_never_rounded_to_all_or_to_none(api: FlaskClient, sql: Sql, insert_worker: Insert) -> None:
    sql(
        "INSERT INTO workers (node_id, heartbeat_at, info, created_at, registered_at) SELECT 'w' || number, "
        """clock_timestamp(), '{"version": "v1"}', now(), now() FROM generate_series(1, 400) number"""
    )
    insert_worker("other", info='{"version": "v2"}')
    shown = [item.text for item in get(api).one("ul", class_="versions").find("li")]
    assert shown == ["v1 > 99 % 400", "v2 < 1 % 1"]


def test_many_versions_are_counted(api: FlaskClient, insert_worker: Insert) -> None:
    for number in range(9):
        insert_worker(f"w{number}", info=json.dumps({"version": f"v{number}"}))
    shown = [item.text for item in get(api).one("ul", class_="versions").find("li")]
    assert len(shown) == 7
    assert shown[-1] == "and 3 more"


def test_the_histogram_counts_every_heartbeat_that_is_expected(api: FlaskClient, every_state: None) -> None:
    label = get(api).one("svg", class_="histogram").attributes["aria-label"]
    found = dict(re.findall(r"([≤>] \w+): (\d+)", label))
    assert len(found) == 10
    assert sum(map(int, found.values())) == 4  # active, stuck, stale, lost
    assert found["≤ 1m"] == "1"


def test_jobs_where_the_metadata_db_is_not_amps_own_are_unknown(api: FlaskClient, fleet: None) -> None:
    assert get(api).one("dl", class_="jobs").text == "unfinished unknown stranded unknown"


def test_jobs_are_counted(make_api: Api, empty_database: str) -> None:
    amp.migrate(empty_database, amp.TODAYS)
    with amp.connect(empty_database) as connection, Scheduler(empty_database) as scheduler:
        amp.register(empty_database, amp.TODAYS, "busy")
        amp.register(empty_database, amp.TODAYS, "idle")
        connection.execute("UPDATE workers SET heartbeat_at = now() - interval '5 minutes' WHERE node_id = 'busy'")
        for _ in range(3):
            scheduler.schedule("busy")
        scheduler.schedule("missing")
        page = get(make_api(empty_database))
        assert page.one("dl", class_="jobs").text == "unfinished 4 stranded 4"
        assert {row["node_id"]: row["jobs"] for row in rows(page)} == {"busy": "3", "idle": "0"}
        assert node_ids(get(make_api(empty_database), "/?sort=jobs")) == ["busy", "idle"]


def test_an_empty_fleet_says_how_to_start_a_worker(api: FlaskClient) -> None:
    page = get(api)
    assert "No worker has registered yet." in page.text
    assert counts(page) == dict.fromkeys(STATES, "0")


HOSTILE = {
    "<script>alert(1)</script>": {"version": "<img src=x onerror=alert(1)>", "progress": '<b>bold</b> & "quotes" \''},
    "\u202eright-to-left": {"version": "\u202ev1", "progress": "مرحبا بالعالم"},
    "w" * 200: {"version": "v" * 200, "progress": "p" * 200},
    "🚀" * 50: {"version": "🔥", "progress": "🧨" * 200},
    "a/b?c=d#e%2F": {"version": "*?,", "progress": "\n\t\x7f"},
    "javascript:alert(1)": {"version": "{{ 7 * 7 }}", "progress": "{% raw %}"},
    "x/jobs": {},
    " ": {"version": []},
}


def test_hostile_texts_are_shown_as_texts(api: FlaskClient, insert_worker: Insert) -> None:
    for node_id, info in HOSTILE.items():
        insert_worker(node_id, info=json.dumps(info))
    answer = api.get("/")
    page = parse(answer.text)
    assert set(node_ids(page)) == {" ".join(node_id.split()) for node_id in HOSTILE}
    assert not page.find("img")
    assert not page.find("b", title="bold")
    assert len(page.find("script")) == 1
    assert "<script>alert" not in answer.text
    assert "49" not in [row["version"] for row in rows(page)]
    for element in page.find():
        assert "style" not in element.attributes
        assert not [name for name in element.attributes if name.startswith("on")]


def test_each_worker_links_to_its_page(api: FlaskClient, insert_worker: Insert) -> None:
    for node_id, info in HOSTILE.items():
        insert_worker(node_id, info=json.dumps(info))
    for link in get(api).one("tbody").find("a"):
        path = link.attributes["href"]
        assert re.fullmatch(r"w/[\w.~%-]*", path, re.ASCII)
        assert link.attributes["title"] == get(api, f"/{path}").one("bdi", class_="whole").text or not link.text


def test_a_megabyte_of_info_does_not_reach_the_page(api: FlaskClient, insert_worker: Insert) -> None:
    insert_worker("w", info=json.dumps({"version": "v" * 1_000_000}))
    assert len(api.get("/").text) < 50_000
    assert len(api.get("/w/w").text) < 50_000


def test_a_page_of_200_workers_has_less_than_60_kb(api: FlaskClient, sql: Sql) -> None:
    sql(
        "INSERT INTO workers (node_id, heartbeat_at, info, created_at, registered_at) SELECT 'w' || md5(number::text), "
        "now() - number * interval '0.7 s', jsonb_build_object('version', 'v0.0.' || number, "
        "'progress', md5((-number)::text)), now(), now() FROM generate_series(1, 250) number"
    )
    answer = api.get("/", headers={"Accept-Encoding": "gzip"})
    assert answer.content_encoding == "gzip"
    assert len(answer.data) < 60_000
    assert len(node_ids(parse(gzip.decompress(answer.data).decode()))) == 200


def test_it_loads_nothing_and_runs_nothing_else(api: FlaskClient, every_state: None) -> None:
    answer = api.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "default-src 'none'" in policy
    page = parse(answer.text)
    for element in page.find():
        for name in ("src", "action", "href"):
            assert not re.match(r"(?:[a-z]+:)?//", element.attributes.get(name, ""))
    assert not page.find("script", src="")
    assert len(page.one("script").text.splitlines()) < 150


def test_it_is_refreshed_without_javascript(api: FlaskClient) -> None:
    assert get(api).one("noscript").one("meta", http_equiv="refresh").attributes["content"] == "5"


@pytest.mark.parametrize(
    "query",
    [
        "?state=broken",
        "?state=",
        "?sort=age",
        "?sort=--state",
        "?page=0",
        "?page=x",
        "?page=-1",
        "?version=",
        "?version=%00",
        "?unknown=1",
        "?state=lost&state=stale",
        f"?node_id={'a,' * 100}a",
    ],
)
def test_an_invalid_parameter_is_a_clear_error(api: FlaskClient, query: str) -> None:
    answer = api.get(f"/{query}")
    assert answer.status_code == 400
    assert answer.mimetype == "text/html"
    page = parse(answer.text)
    assert re.search(r"parameter '?\w+'?:? ", page.one("p", id="message").text)
    assert "." in links(page)


def test_an_invalid_value_is_escaped(api: FlaskClient) -> None:
    answer = api.get(f"/?state={quote('<script>alert(1)</script>')}")
    assert answer.status_code == 400
    assert "<script>" not in answer.text


def test_a_link_to_grafana_is_there_if_its_url_is_known(make_api: Api, database: str, fleet: None) -> None:
    page = get(make_api(database, grafana_url="https://grafana.example.org/sub"))
    assert "https://grafana.example.org/sub/d/amp-fleet" in links(page)
    assert not [link for link in links(get(make_api(database))) if "/d/" in link]
